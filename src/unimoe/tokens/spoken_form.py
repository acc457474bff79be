"""Any written English as it is said: what a reader would say on meeting numbers, marks, addresses.

In:  text, as a language core or a user writes it, markdown included.
Out: the same in a-z, A-Z, space and . , ? ! ' - alone, ending in a mark; "" where nothing is left.

>>> spoken_form("**Dr. Lee** paid $3.50 (see https://lee.org/a).")
'Doctor Lee paid three dollars and fifty cents, see lee dot org slash a.'

Nothing is lost silently. What has no sound of its own is dropped: the marks of markdown and HTML,
the target of a markdown link (its text is said), "https://", quotation marks. All else is said or
named (`spoken_characters`). So every text has a spoken form, and nothing here raises.
Words in capitals are spelt where a reader would spell them: USA, HTML, but not NASA or NEVER.
"""

# ruff: noqa: RUF001  characters that look like others are the subject here

import html
import re
import unicodedata
from collections.abc import Callable

from unimoe.tokens.number_words import cardinal, ordinal
from unimoe.tokens.spoken_characters import speakable
from unimoe.tokens.spoken_numbers import MONTHS, spoken_numbers

SPEAKABLE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,?!'-"
"""All a speaker has to know."""

_TITLES = {
    "Dr.": "Doctor",
    "Mr.": "Mister",
    "Mrs.": "Missus",
    "Ms.": "Miz",
    "Prof.": "Professor",
    "Gen.": "General",
    "Col.": "Colonel",
    "Capt.": "Captain",
    "Lt.": "Lieutenant",
    "Sgt.": "Sergeant",
    "Rev.": "Reverend",
    "Gov.": "Governor",
    "Sen.": "Senator",
    "Rep.": "Representative",
    "Pres.": "President",
    "Mt.": "Mount",
    "Ft.": "Fort",
}
"""Said so before a name."""
_BEFORE_NUMBERS = {
    "No.": "number",
    "Nos.": "numbers",
    "Nr.": "number",
    "p.": "page",
    "pp.": "pages",
    "fig.": "figure",
    "figs.": "figures",
    "eq.": "equation",
    "ch.": "chapter",
    "sec.": "section",
    "vol.": "volume",
    "ca.": "about",
    "c.": "about",
}
_ABBREVIATIONS = {
    "e.g.": "for example",
    "i.e.": "that is",
    "etc.": "et cetera",
    "et al.": "and others",
    "vs.": "versus",
    "cf.": "compare",
    "viz.": "namely",
    "approx.": "approximately",
    "dept.": "department",
    "est.": "established",
    "w/": "with",
    "w/o": "without",
    "a.k.a.": "also known as",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "Inc.": "Incorporated",
    "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Co.": "Company",
    "Bros.": "Brothers",
    "Ave.": "Avenue",
    "Blvd.": "Boulevard",
    "Rd.": "Road",
    "Ph.D.": "P H D",
    "PhD": "P H D",
}
NEVER_LAST = frozenset({*_TITLES, "St.", "e.g.", "i.e.", "vs.", "cf.", "viz.", "approx.", "al."})
"""Abbreviations after which a sentence goes on, whatever follows."""

_WORDS_IN_CAPITALS = (
    "A I AM AN AND ALL ARE AS AT BE BUT BY CAN DAY DO END FOR GET GO HAS HE HER HIM HIS HOT HOW IF"
    " IN IS IT ITS LET MAN MAY ME MY NEW NO NOT NOW OF OFF OH OLD ON ONE OR OUR OUT RED RUN SAY SEE"
    " SHE SO TEN THE TO TOO TOP TWO UP US WAS WAY WE WHO WHY WIN YES YET YOU AIDS GIF LED RAM ROM"
    " SIM VAT PIN ZIP COVID"
)
_SPELT = "USSR IEEE YMCA NAACP IUPAC UCLA IBAN"
_MONARCHS = (
    "Alexander Benedict Catherine Charles Edward Elizabeth Ferdinand Francis Frederick George"
    " Gregory Henry Innocent Ivan James John Leo Leopold Louis Napoleon Nicholas Paul Peter Philip"
    " Pius Ramses Richard Rudolf Urban Victor Wilhelm William"
).replace(" ", "|")
_NUMBERED = (
    "Act Appendix Article Book Chapter Class Figure Grade Level Part Phase Section Stage Table"
    " Type Unit Volume War"
).replace(" ", "|")
_ROMAN = r"(?=[IVX])X{0,3}(?:IX|IV|V?I{0,3})"
_COUNTRY_DOMAINS = "ai|au|ca|ch|cn|de|eu|fr|io|jp|uk|us"
_TOP_DOMAINS = f"com|org|net|edu|gov|dev|info|{_COUNTRY_DOMAINS}"
_ADDRESS_SIGNS = {
    ".": "dot",
    "/": "slash",
    "-": "dash",
    "_": "underscore",
    "?": "question mark",
    "&": "and",
    ":": "colon",
}


def spoken_form(text: str) -> str:
    """What is said when this text is read aloud.

    Sentences, paragraphs, headings and list items end in a mark, so that a speaker pauses there.
    """
    text = "".join(map(_plain_digits, unicodedata.normalize("NFC", text)))
    text = re.sub(r"[’ʼ]", "'", text)
    for step in (_without_markup, _addresses, _abbreviations, _roman_numerals, spoken_numbers):
        text = step(text)
    spoken = speakable(_acronyms(text)).rstrip()
    # A comma stays where the text was cut at one; after a closing bracket it means nothing.
    is_cut = text.rstrip().endswith((",", ";", ":"))
    return _ended(spoken if is_cut else spoken.rstrip(","))


def _plain_digits(character: str) -> str:
    """Digits of other scripts, below the line, or in one character (½) as ASCII digits."""
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    kind, _, _ = unicodedata.decomposition(character).partition(" ")
    if kind == "<fraction>":
        return " " + unicodedata.normalize("NFKC", character).replace("⁄", "/")
    return unicodedata.normalize("NFKC", character) if kind == "<sub>" else character


def _without_markup(text: str) -> str:
    """No marks of markdown and HTML; each line that is a block of its own ends in a mark."""
    lines = [_line(line) for line in re.sub(r"<[A-Za-z/!][^<>]*>", _tag, text).splitlines()]
    text = html.unescape("\n".join(lines))
    text = re.sub(r"!?\[([^\]]*)\]\([^)\s]*\)", r"\1", text)
    text = re.sub(r"(\*\*\*|\*\*|\*|~~)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<!\w)(__|_)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"`+", "", re.sub(r"\\([\\`*_#+.!\[\]{}()-])", r"\1", text))


def _tag(match: re.Match[str]) -> str:
    """An HTML tag is not said; an address in angle brackets is."""
    inside = match[0][1:-1]
    return inside if re.match(r"https?:|[\w.+-]+@", inside) else " "


def _line(line: str) -> str:
    if re.fullmatch(r"\s*(?:```|~~~)[\w+-]*\s*|\s*(?:[-*_=]\s*){3,}|[\s|:-]*\|[\s|:-]*", line):
        return ""  # the fence of code, a rule, the frame of a table
    block = re.match(r"\s*(?:>\s?)*(?:(#{1,6})\s+|[-*+•]\s+(?:\[[ xX]\]\s+)?|(\d+)[.)]\s+)?", line)
    assert block is not None
    rest = line[block.end() :].rstrip().rstrip("#" if block[1] else "").strip()
    rest = re.sub(r"^\||\|$", "", rest)
    number = f"{cardinal(block[2])}, " if block[2] else ""
    is_block = block[0].strip() != ""
    return _ended(number + rest) if is_block and rest else number + rest


def _ended(text: str) -> str:
    text = text.rstrip()
    return text if not text or re.search(r"[.,?!:;]['\")*_`]*$", text) else text.rstrip("-'") + "."


def _addresses(text: str) -> str:
    text = re.sub(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _spelt_address, text)
    text = re.sub(
        rf"(?:https?://|www\.)[^\s<>]+|\b[\w-]+(?:\.[\w-]+)*\.(?:{_TOP_DOMAINS})\b(?:/[^\s<>]*)?",
        _spelt_address,
        text,
    )
    text = re.sub(r"(?<=[a-z0-9_])\.(?=[a-z]{2,})", " dot ", text)  # as in answer.wav
    return re.sub(r"(?<=[A-Za-z])_+(?=[A-Za-z])", " underscore ", text)


def _spelt_address(match: re.Match[str]) -> str:
    address = match[0].rstrip(".,;:!?)'\"*")
    rest = match[0][len(address) :]
    address = re.sub(r"^https?://", "", address).rstrip("/")
    pieces = re.findall(r"[A-Za-z]+|\d+|.", address)
    return " ".join(_address_piece(piece) for piece in pieces) + rest


def _address_piece(piece: str) -> str:
    if piece.isascii() and piece.isalpha():
        is_word = re.search("[aeiouy]", piece.lower()) and piece not in _COUNTRY_DOMAINS.split("|")
        return piece if is_word or len(piece) == 1 else _spelt(piece)
    return _ADDRESS_SIGNS.get(piece, piece)


def _abbreviations(text: str) -> str:
    text = re.sub(r"\bSt\.(?=\s+[A-Z])", "Saint", text)
    text = re.sub(r"(?<=[a-z]\s)St\.", lambda match: _last("Street", match), text)
    for written, spoken in _TITLES.items():
        text = re.sub(rf"\b{re.escape(written)}(?=\s*[A-Z])", spoken, text)
    text = re.sub(r"(?<=[a-z]\s)Dr\.", lambda match: _last("Drive", match), text)
    for written, spoken in _BEFORE_NUMBERS.items():
        # "No. 5" and "Fig. 5", but not "He said no. 5 others agreed."
        first = f"[{written[0]}{written[0].upper()}]"
        text = re.sub(rf"\b{first}{re.escape(written[1:])}(?=\s*\d)", f"{spoken} ", text)
    for written, spoken in _ABBREVIATIONS.items():
        text = re.sub(rf"(?<![\w.])(?i:{re.escape(written)})(?![\w])", _replacement(spoken), text)
    short_months = "|".join(month[:3] for month in MONTHS)
    text = re.sub(rf"\b({short_months})\.(?=\s+\d)", r"\1", text)
    # U.S. and J. R. R.: letters with full stops, of which the last may end the sentence.
    text = re.sub(r"\b(?:[A-Z]\.){2,}", lambda match: _last(_spelt(match[0]), match), text)
    return re.sub(r"\b(?<![A-Z]\s)([A-Z])\.(?=\s+[A-Z])", r"\1", text)


def _replacement(spoken: str) -> Callable[[re.Match[str]], str]:
    def replaced(match: re.Match[str]) -> str:
        is_capital = match[0][0].isupper()
        words = spoken[0].upper() + spoken[1:] if is_capital else spoken
        return _last(words, match) if match[0].endswith(".") else words

    return replaced


def _last(words: str, match: re.Match[str]) -> str:
    """The words; with a full stop where that of the abbreviation ended the text as well."""
    return words + ("." if re.fullmatch(r"[\s)\"'*_]*", match.string[match.end() :]) else "")


def _roman_numerals(text: str) -> str:
    """Henry VIII is the eighth, Chapter IV is four, World War II is two; else letters stay."""
    text = re.sub(
        rf"\b({_MONARCHS}) ({_ROMAN})\b(?!')",
        lambda match: f"{match[1]} the {ordinal(str(_roman(match[2])))}",
        text,
    )
    return re.sub(
        rf"\b((?i:{_NUMBERED})) ({_ROMAN})\b(?!')",
        lambda match: f"{match[1]} {cardinal(str(_roman(match[2])))}",
        text,
    )


def _roman(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))


def _acronyms(text: str) -> str:
    is_shouted = not re.search("[a-z]", text) and len(re.findall("[A-Z]{2,}", text)) > 1
    if is_shouted:  # capitals mean nothing where all are
        return text
    return re.sub(r"\b([A-Z]{2,})(s|'s)?\b", _acronym, text)


def _acronym(match: re.Match[str]) -> str:
    word, ending = match[1], match[2]
    if not _is_spelt(word):
        return match[0]
    return _spelt(word) + ("'s" if ending else "")


def _is_spelt(word: str) -> bool:
    if word in _WORDS_IN_CAPITALS.split():
        return False
    is_hard_to_say = not re.search("[AEIOUY]", word) or re.search("[BCDFGHJKLMNPQRSTVWXZ]{3}", word)
    return (
        word in _SPELT.split() or len(word) <= 3 or (is_hard_to_say is not None and len(word) <= 5)
    )


def _spelt(word: str) -> str:
    return " ".join(letter for letter in word.upper() if letter.isalnum())
