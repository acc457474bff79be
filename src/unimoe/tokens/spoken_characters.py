"""Characters a speaker does not know, as words: symbols, emoji, letters of other scripts.

In:  any text without digits.  Out: a-z, A-Z, space and . , ? ! ' - alone.
Every character is kept, becomes a pause, or is named; only marks that nobody hears go: quotation
marks, and what joins or colours emoji. A letter with an accent loses it. A single foreign letter is
called by its name (alpha); a word of them is said to be a foreign word, since a name for every
letter helps nobody. What has no name at all is "an unknown character".
"""

# ruff: noqa: RUF001  characters that look like others are the subject here

import re
import unicodedata

_PAUSES = str.maketrans(dict.fromkeys("()[]{};:—―|•·", ", ") | {"…": ". "})
_SILENT = dict.fromkeys(map(ord, '"“”„‟«»‹›`\u200b\u200c\u200d\ufeff\u00ad'))
_LIKE_ASCII = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "‛": "'", "′": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-"}
    | {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O"}
    | {"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th"}
    | {"ı": "i", "ħ": "h", "Ħ": "H", "ŋ": "ng", "Ŋ": "Ng", "¿": "", "¡": ""}
)
_NAMES = {
    "&": "and",
    "@": "at",
    "#": "hash",
    "+": "plus",
    "=": "equals",
    "/": "slash",
    "\\": "backslash",
    "*": "asterisk",
    "%": "percent",
    "‰": "per mille",
    "^": "caret",
    "~": "tilde",
    "_": "underscore",
    "<": "less than",
    ">": "greater than",
    "≤": "at most",
    "≥": "at least",
    "≈": "about",
    "≠": "does not equal",
    "≡": "is identical to",
    "±": "plus or minus",
    "−": "minus",
    "×": "times",
    "÷": "divided by",
    "√": "square root of",
    "∞": "infinity",
    "∑": "sum",
    "∈": "in",
    "→": "to",
    "←": "from",
    "⇒": "implies",
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "¢": "cent",
    "°": "degrees",
    "§": "section",
    "©": "copyright",
    "®": "registered",
    "™": "trademark",
    "²": "squared",
    "³": "cubed",
}
_NAMED_WHOLE = {
    "...": ". ",
    "C#": "C sharp",
    "F#": "F sharp",
    "->": " to ",
    "=>": " implies ",
    "<=": " at most ",
    ">=": " at least ",
    "!=": " does not equal ",
    "==": " equals ",
    "&&": " and ",
}
_SPEAKABLE = re.compile(r"[A-Za-z .,?!'-]")
_COLOURS = range(0x1F3FB, 0x1F400)  # skin tones
_FOREIGN_WORD = "foreign word"
_UNKNOWN = "unknown character"


def speakable(text: str) -> str:
    """The text in the characters a speaker knows.

    Args:
        text: numbers already in words. Line breaks count as blanks.
    """
    text = unicodedata.normalize("NFC", text).translate(_LIKE_ASCII)
    for written, spoken in _NAMED_WHOLE.items():
        text = text.replace(written, spoken)
    text = text.translate(_SILENT).translate(_PAUSES)
    text = re.sub(r"\s-+\s|--+", ", ", text)
    text = "".join(c if c.isalpha() or unicodedata.combining(c) else _spoken(c) for c in text)
    return _tidy(re.sub(r"[^\W\d_]\w*", lambda word: _latin(word[0]), text))


def _latin(word: str) -> str:
    """A word of letters without accents; a foreign one named."""
    folded = "".join(
        character
        for character in unicodedata.normalize("NFKD", word).translate(_LIKE_ASCII)
        if not unicodedata.combining(character)
    )
    if re.fullmatch(r"[A-Za-z'-]*", folded):
        return folded
    if len(folded) == 1:
        return f" {_letter_name(folded)} "
    # Latin letters in it, as in µTorrent, stay; the rest is named.
    runs: list[str] = re.findall(r"[A-Za-z'-]+|[^A-Za-z'-]+", folded)
    return "".join(run if run.isascii() else f" {_run_name(run)} " for run in runs)


def _run_name(letters: str) -> str:
    return _letter_name(letters) if len(letters) == 1 else _FOREIGN_WORD


def _letter_name(letter: str) -> str:
    """Such as "alpha" of GREEK SMALL LETTER ALPHA."""
    _, is_letter, name = unicodedata.name(letter, "").partition(" LETTER ")
    words = re.sub(r"[^a-z]+", " ", name.lower()).strip()
    return words if is_letter and words else _FOREIGN_WORD


def _spoken(character: str) -> str:
    if _SPEAKABLE.match(character):
        return character
    if character.isspace():
        return " "
    if character in _NAMES:
        return f" {_NAMES[character]} "
    category = unicodedata.category(character)
    if category in ("Mn", "Me", "Cf") or ord(character) in _COLOURS:
        return ""  # belongs to the character before it
    if category.startswith("N"):
        return f" {_numeral(character)} "
    name = unicodedata.name(character, "")
    words = " ".join(re.findall(r"[a-z]+(?:-[a-z]+)*", name.lower()))
    if not words or category.startswith("C") or "REPLACEMENT" in name:
        return f" {_UNKNOWN} "
    return f", {words}, " if category == "So" else f" {words} "


def _numeral(character: str) -> str:
    """Figures that are no ASCII digits, such as a Roman numeral or a circled one."""
    name = unicodedata.name(character, "").lower()
    return " ".join(re.findall(r"[a-z]+(?:-[a-z]+)*", name)) or _UNKNOWN


def _tidy(text: str) -> str:
    """Marks where a writer would put them: one at a time, after a word, before a blank."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?<![A-Za-z])'|'(?![A-Za-z])", _apostrophe, text)
    text = re.sub(r"\s+([.,?!])", r"\1", text)
    text = re.sub(r"[.,?!]{2,}(?:\s*[.,?!]+)*|[.,?!](?:\s+[.,?!]+)+", _strongest, text)
    text = re.sub(r"([.,?!])(?=[A-Za-z'-])", r"\1 ", text)
    text = re.sub(r"(?<![A-Za-z])-+|-+(?![A-Za-z])", " ", text)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"\s+([.,?!])", r"\1", text).lstrip(" .,?!-")


def _apostrophe(match: re.Match[str]) -> str:
    """One outside a word is a quotation mark, unless letters are left out before it: 'tis, 'em."""
    is_elision = re.match(r"'(?:tis|twas|em|til|cause|n)\b", match.string[match.start() :])
    return "'" if is_elision else ""


def _strongest(match: re.Match[str]) -> str:
    return next(mark for mark in "?!.," if mark in match[0])
