"""The text of an answer as its tokens come, and in which voice each part of it is to be said.

In:  token ids of one answer.  Out: text to show, and `VoiceChange`s between it.
A core that speaks marks what it says, and how:

    <|speech_start|> voice <|speech_prompt|> text <|speech_end|>

The marks and the description of the voice are no text of the answer; the text between them is, like
all text outside of such spans.
Source: released form of spoken answers (docs/sources.md#speech-chunks).
"""

from typing import NamedTuple

from unimoe.infer.sampling import StopText
from unimoe.tokens.vocabulary import Vocabulary


class VoiceChange(NamedTuple):
    """What follows is said in another voice."""

    description: str | None
    """None: in the voice that was asked for."""


class AnswerText:
    """Tokens to text and changes of voice, up to the first stop string.

    Args:
        vocabulary: knows the control tokens.
        stop: strings that end the answer and are not part of it.
    """

    def __init__(self, vocabulary: Vocabulary, stop: tuple[str, ...]) -> None:
        self._tokens = vocabulary.special_tokens
        self._characters = vocabulary.text_stream()
        self._visible = StopText(stop)
        self._description: list[str] | None = None  # None: not in a description

    @property
    def has_stopped(self) -> bool:
        """True once a stop string was met."""
        return self._visible.found

    def push(self, token: int) -> list[str | VoiceChange]:
        """What the token completes; pieces of text are never empty."""
        if token == self._tokens.speech_start:
            before = self.flush()
            self._description = []
            return before
        if token == self._tokens.speech_prompt and self._description is not None:
            description = "".join([*self._description, self._characters.flush()]).strip()
            self._description = None
            return [VoiceChange(description)]
        if token == self._tokens.speech_end:
            return [*self.flush(), VoiceChange(None)]
        characters = self._characters.push(token)
        if self._description is not None:
            self._description.append(characters)
            return []
        return _some(self._visible.push(characters))

    def flush(self) -> list[str | VoiceChange]:
        """The rest of the text; of a description that never became one, too."""
        rest = "".join([*(self._description or []), self._characters.flush()])
        self._description = None
        return _some(self._visible.push(rest) + self._visible.flush())


def _some(text: str) -> list[str | VoiceChange]:
    return [text] if text else []
