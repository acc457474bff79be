"""Text to the sentences a speaker says one by one, also while the text still comes.

In:  pieces of text, cut anywhere.  Out: sentences in order, as written; joined they are the text
but for blanks at their edges.
A sentence ends at . ? ! or an ellipsis before a blank, not inside quotation marks or brackets, not
after "Dr." or an initial, and only where no small letter follows; and at the end of a paragraph, a
heading or a list item. One longer than a piece may be is cut at a comma, before a conjunction, or
between words; one of less than three words is said with what follows it.
Where text is cut depends on the text alone and not on how it came in.
"""

import re
from collections.abc import Iterator
from itertools import takewhile

from unimoe.errors import RequestError
from unimoe.tokens.spoken_form import NEVER_LAST

DEFAULT_MAX_CHARACTERS = 160
"""Of a piece; about ten seconds of speech."""
LEAST_CHARACTERS = 20
_LEAST_WORDS = 3
_CLOSING = "\"'”’»)\\]*_`"  # noqa: RUF001
# An end of a sentence and what stands next; or the end of a line before a new block.
_END = re.compile(
    rf"[.?!…]+[{_CLOSING}]*(?=\s+(?P<next>\S))|(?<=\S)(?=[^\S\n]*\n\s*[-*+#>|•\d])"
    r"|(?<=\S)(?=[^\S\n]*\n[^\S\n]*\n\s*\S)"
)
_PAUSE = re.compile(rf"[,;:—–][{_CLOSING}]*(?=\s)|—(?=\w)")  # noqa: RUF001
_BEFORE_CONJUNCTION = re.compile(
    r"\s(?=(?:and|but|or|nor|so|yet|because|although|though|while|whereas|which|who|that|if|when"
    r"|where|before|after|until|since|unless|then)\s)"
)
_QUOTES = {"“": "”", "«": "»", "(": ")", "[": "]"}


class SentenceStream:
    """Gives sentences as soon as it is certain where they end.

    >>> stream = SentenceStream()
    >>> stream.push("Dr. Lee came at 3.5"), stream.push(" sharp. He"), stream.flush()
    ([], ['Dr. Lee came at 3.5 sharp.'], ['He'])

    Args:
        max_characters: a piece has so many at most, 20 or more.

    Raises:
        RequestError: fewer.
    """

    def __init__(self, max_characters: int = DEFAULT_MAX_CHARACTERS) -> None:
        if max_characters < LEAST_CHARACTERS:
            raise RequestError(
                f"sentences of {max_characters} characters at most are no sentences; "
                f"need {LEAST_CHARACTERS} or more"
            )
        self._max_characters = max_characters
        self._text = ""

    def push(self, text: str) -> list[str]:
        """What the text completes."""
        self._text = (self._text + text).lstrip()
        return self._taken()

    def flush(self) -> list[str]:
        """The rest, once it is known that nothing follows."""
        sentences = self._taken()
        rest = self._text.strip()
        self._text = ""
        return [*sentences, *cut_long(rest, self._max_characters)]

    def _taken(self) -> list[str]:
        taken: list[str] = []
        while (end := _piece_end(self._text, self._max_characters)) is not None:
            taken.append(self._text[:end].rstrip())
            self._text = self._text[end:].lstrip()
        return taken


def split_sentences(text: str, max_characters: int = DEFAULT_MAX_CHARACTERS) -> list[str]:
    """The sentences of a whole text."""
    stream = SentenceStream(max_characters)
    return stream.push(text) + stream.flush()


def cut_long(sentence: str, max_characters: int) -> list[str]:
    """A sentence in pieces of so many characters at most; [] of an empty one.

    A cut stands after a comma where there is one, else before a conjunction, else between words,
    as late as it can; a word longer than a piece is cut itself.
    """
    pieces: list[str] = []
    rest = sentence.strip()
    while len(rest) > max_characters:
        end = _late_cut(rest, min(max_characters, _last_words_start(rest)))
        pieces.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*pieces, rest] if rest else pieces


def _last_words_start(text: str) -> int:
    """Where the last three words begin, which are not cut off alone."""
    rest, *last = text.rsplit(maxsplit=_LEAST_WORDS)
    return len(rest) + 1 if len(last) == _LEAST_WORDS and " " in rest.strip() else len(text)


def _piece_end(text: str, max_characters: int) -> int | None:
    """Where the first piece of the text ends; None while that is not certain."""
    ends = list(takewhile(lambda end: end <= max_characters, _sentence_ends(text)))
    long_enough = next((end for end in ends if len(text[:end].split()) >= _LEAST_WORDS), None)
    if long_enough is not None or len(text.rstrip()) <= max_characters:
        return long_enough
    return ends[-1] if ends else _late_cut(text, max_characters)


def _sentence_ends(text: str) -> Iterator[int]:
    return (match.end() for match in _END.finditer(text) if _is_end(text, match))


def _is_end(text: str, match: re.Match[str]) -> bool:
    if not match["next"]:  # a new block begins, whatever is still open
        return True
    before = text[: match.end()]
    if _has_open_quote(before) or match["next"].islower():
        return False
    word = before.split()[-1]
    is_initial = re.fullmatch(r"\W*[A-Z]\.", word) is not None
    is_list_number = re.fullmatch(r"\W*\d+\.", before.strip()) is not None
    return not (is_initial or is_list_number or word.lstrip("\"'(“[") in NEVER_LAST)


def _has_open_quote(text: str) -> bool:
    """A quotation or a bracket begins in the last paragraph of the text and goes on."""
    paragraph = re.split(r"\n\s*\n", text)[-1]
    is_open = paragraph.count('"') % 2 == 1
    return is_open or any(paragraph.count(a) > paragraph.count(z) for a, z in _QUOTES.items())


def _late_cut(text: str, max_characters: int) -> int:
    """The best place to cut a text that is longer than a piece; only what a piece holds counts."""
    window = text[: max_characters + 1]
    for pattern in (_PAUSE, _BEFORE_CONJUNCTION, re.compile(r"\s(?=\S)")):
        ends = [match.end() for match in pattern.finditer(window) if match.end() <= max_characters]
        # A comma after the first word would make a piece of that word.
        good = [end for end in ends if len(window[:end].split()) >= _LEAST_WORDS]
        if good:
            return good[-1]
    return max_characters
