"""A session with a memory: every question is asked after all that was said before.

In:  a question, and media attached to it.  Out: the events of its answer, as from a session.
"""

from contextlib import closing
from dataclasses import replace

from unimoe.infer.answering import AnswerEvents, TextDelta
from unimoe.infer.picture import DrawingOptions
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.session import OmniInference
from unimoe.infer.speech import SpeechOptions
from unimoe.media.source import BinaryReader, read_source
from unimoe.tokens.message import Message, Part, TextPart, message


class Conversation:
    """Questions and answers in their order.

    Args:
        session: answers.
        options: of every answer.
        top_p_routing: routing threshold in place of the checkpoint's.
        speech: how every answer is spoken; None: it is not.
        drawing: how a picture is drawn for every answer; None: none is.
        system: instructions that stay when the rest is forgotten.
    """

    def __init__(
        self,
        session: OmniInference,
        options: SamplingOptions,
        *,
        top_p_routing: float | None = None,
        speech: SpeechOptions | None = None,
        drawing: DrawingOptions | None = None,
        system: str | None = None,
    ) -> None:
        self._session = session
        self._options = options
        self._top_p_routing = top_p_routing
        self._speech = speech
        self._drawing = drawing
        self._opening = [] if system is None else [message("system", system)]
        self._turns: list[Message] = []
        self._attached: tuple[Part, ...] = ()

    def attach(self, *parts: Part) -> None:
        """Let media go with the next question.

        Raises:
            MediaError: a file object cannot be read, or is beyond a limit.
        """
        self._attached += tuple(self._kept(part) for part in parts)

    def reset(self) -> None:
        """Forget all turns and attachments."""
        self._turns, self._attached = [], ()

    def ask(self, question: str) -> AnswerEvents:
        """Stream the answer.

        What was streamed is remembered, also of an answer given up. A question that is refused is
        not, and takes its attachments with it.

        Raises:
            UnimoeError: as `OmniInference.respond`.
        """
        turn = message("user", *self._attached, question)
        self._attached = ()
        prompt = [*self._opening, *self._turns, turn]
        events = self._session.respond(
            prompt,
            self._options,
            top_p_routing=self._top_p_routing,
            speech=self._speech,
            drawing=self._drawing,
        )
        return self._remembered(turn, events)

    def _kept(self, part: Part) -> Part:
        """The part, for every question to come: a file object could be read only once."""
        if isinstance(part, TextPart) or not isinstance(part.source, BinaryReader):
            return part
        return replace(part, source=read_source(part.source, limits=self._session.limits).data)

    def _remembered(self, turn: Message, events: AnswerEvents) -> AnswerEvents:
        said: list[str] = []
        try:
            with closing(events):
                for event in events:
                    if isinstance(event, TextDelta):
                        said.append(event.text)
                    yield event
        finally:
            self._turns += [turn, message("assistant", "".join(said))]
