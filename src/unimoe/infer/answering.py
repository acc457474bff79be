"""How an answer comes: its text, its speech beside it, and last its picture.

In:  a generation under way, and what speaks and draws beside it.  Out: `TextDelta` after
`TextDelta`, `SpeechChunk`s between them, progress and one picture, and the `Usage` at the end.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from unimoe.heads.flow import ImageProgress
from unimoe.infer.answer_text import AnswerText, VoiceChange
from unimoe.infer.engine import Generation
from unimoe.infer.picture import Drawing, DrawingOptions
from unimoe.infer.speaking import Speaking
from unimoe.infer.speech import SpeechChunk
from unimoe.infer.usage import Usage
from unimoe.model.omni import OmniModel
from unimoe.tokens.message import ImagePart, Message, TextPart
from unimoe.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unimoe.heads.painter import Painter


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text, in whole characters."""

    text: str


AnswerEvents: TypeAlias = Generator[
    TextDelta | SpeechChunk | ImageProgress | Drawing | Usage, None, None
]
"""Deltas and speech, progress and one picture, then one usage; `close` cancels."""


def answer_events(
    generation: Generation,
    answer: AnswerText,
    speaking: Speaking | None,
    painting: "Painting | None",
) -> AnswerEvents:
    """Everything of one answer; `close` cancels all that makes it.

    Args:
        generation: of its tokens.
        answer: turns them into text, and knows where to stop.
        speaking: says the text; None: nobody does.
        painting: draws once the text is there; None: nobody does.
    """
    said = ""
    try:
        for step in generation:
            token = step.tokens[0]
            if token is not None and step.finish_reasons[0] != "stop":
                for delta in _told(answer.push(token), speaking):
                    said += delta.text
                    yield delta
                if answer.has_stopped:
                    generation.close("stop")
            # A little of the speech after every token: neither waits for the other.
            if speaking is not None and (chunk := speaking.step()):
                yield chunk
        for delta in _told(answer.flush(), speaking):
            said += delta.text
            yield delta
        yield from _heard_and_seen(speaking, None if painting is None else painting.drawn(said))
        spoken = None if speaking is None else speaking.usage
        yield replace(generation.usage(), speech=spoken)
    finally:
        generation.close()
        if speaking is not None:
            speaking.close()


def _told(pieces: list[str | VoiceChange], speaking: Speaking | None) -> Iterator[TextDelta]:
    """Show what an answer says, and have it spoken."""
    for piece in pieces:
        if isinstance(piece, str):
            yield TextDelta(piece)
        if speaking is not None:
            if isinstance(piece, str):
                speaking.push(piece)
            else:
                speaking.change_voice(piece.description)


def _heard_and_seen(
    speaking: Speaking | None, picture: Iterator[ImageProgress | Drawing] | None
) -> Iterator[SpeechChunk | ImageProgress | Drawing]:
    """What is left once the text is there: some of the speech after every step of the picture."""
    if speaking is not None:
        speaking.finish()
    for event in picture or ():
        yield event
        if speaking is not None and (chunk := speaking.step()):
            yield chunk
    if speaking is not None:
        yield from speaking.rest()


class Painting:
    """The picture of an answer, once its text is there."""

    def __init__(
        self,
        model: OmniModel,
        vocabulary: Vocabulary,
        painter: "Painter",
        turn: Message,
        options: DrawingOptions,
        seed: int,
    ) -> None:
        self._model, self._vocabulary, self._painter = model, vocabulary, painter
        self._options, self._seed = options, seed
        self._words = " ".join(part.text for part in turn.content if isinstance(part, TextPart))
        images = [part.source for part in turn.content if isinstance(part, ImagePart)]
        self._image = images[-1] if images else None

    def drawn(self, answer: str) -> Iterator[ImageProgress | Drawing]:
        """Progress, and last the picture: of the words, or of the answer where all was spoken.

        An answer beside words is not drawn from: mini, asked to paint a monkey, says "No.", and
        with that for a thought it painted none.
        """
        from unimoe.infer.drawing import draw

        options = self._options
        events = draw(
            self._model,
            self._vocabulary,
            self._painter,
            self._words or answer,
            self._image,
            steps=options.steps,
            guidance_scale=options.guidance_scale,
            seed=self._seed,
        )
        for event in events:
            yield event if isinstance(event, ImageProgress) else Drawing(event)
