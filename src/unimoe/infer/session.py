"""A loaded checkpoint you can talk to: `chat` for the whole answer, `stream` for its pieces.

In:  a question with images, sounds and videos, or a conversation of `Message` values.
Out: `ChatAnswer`, or `TextDelta` after `TextDelta`, `SpeechChunk`s between them where speech is
asked for, and the `Usage` at the end.
A session keeps no conversation: history is what the caller gives as `messages`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

import torch

from unimoe.checkpoint.directory import read_config
from unimoe.checkpoint.mini import mini_directory
from unimoe.checkpoint.weights import load_model, tensor_report
from unimoe.config import DRAWING_GUIDANCE, DRAWING_STEPS, MediaLimits, PainterConfig
from unimoe.errors import CheckpointError, RequestError
from unimoe.heads.head_files import read_head
from unimoe.heads.speaker import read_speaker
from unimoe.infer.answer_text import AnswerText
from unimoe.infer.answering import AnswerEvents, Painting, TextDelta, answer_events
from unimoe.infer.engine import generate
from unimoe.infer.picture import Drawing, DrawingOptions
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.speaking import Speaking, speak
from unimoe.infer.speech import Speech, SpeechChunk, SpeechOptions
from unimoe.infer.speech_head import SpeechHead
from unimoe.infer.usage import Usage
from unimoe.media.audio import AudioSource
from unimoe.media.image import ImageSource
from unimoe.media.source import MediaSource
from unimoe.tokens.batch import collate
from unimoe.tokens.message import AudioPart, ImagePart, Message, Part, TextPart, VideoPart
from unimoe.tokens.sentences import DEFAULT_MAX_CHARACTERS
from unimoe.tokens.sequence import encode_chat
from unimoe.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unimoe.heads.painter import Painter

OutputForm = Literal["text", "speech", "image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatAnswer:
    """An answer; unpacks as `text, speech, image`; what was not asked for is None."""

    text: str
    speech: Speech | None = None
    """None: it was not asked for, or nothing in the text can be said."""
    image: Drawing | None = None
    usage: Usage

    def __iter__(self) -> Iterator[str | Speech | Drawing | None]:
        return iter((self.text, self.speech, self.image))


class ChatRequest(TypedDict, total=False):
    """What may stand beside a question; meaning and defaults: see `OmniInference.stream`."""

    image: ImageSource | Sequence[ImageSource] | None
    audio: AudioSource | Sequence[AudioSource] | None
    video: MediaSource | Sequence[MediaSource] | None
    messages: Sequence[Message]
    output_form: Sequence[str]
    top_p_routing: float | None
    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int | None
    stop: str | Sequence[str]
    stop_tokens: Sequence[int]
    voice: str | None
    pace: float
    sentence_split_threshold: int
    long_form: bool
    steps: int
    guidance_scale: float


class OmniInference:
    """A checkpoint in memory, ready for questions.

    >>> model = OmniInference("checkpoints/tiny")  # doctest: +SKIP
    >>> text, _, _ = model.chat("What do you see?", image="cat.jpg")  # doctest: +SKIP

    Args:
        ckpt: directory of a checkpoint.
        device_map: "auto" spreads the model over the accelerators there are, else takes the CPU;
            or one device; or module names -> device, as `load_model` explains.
        dtype: "auto" is float32 on the CPU, since bfloat16 without native support is about 50
            times slower there, and the checkpoint's own dtype elsewhere.
        limits: what media are refused before they are decoded.

    Raises:
        CheckpointError: no such checkpoint, or an incomplete one.
    """

    def __init__(
        self,
        ckpt: str | Path = "mini",
        device_map: str | Mapping[str, str] = "auto",
        dtype: str | torch.dtype = "auto",
        *,
        limits: MediaLimits | None = None,
    ) -> None:
        directory = _checkpoint_directory(ckpt)
        special_tokens = read_config(directory).special_tokens
        self.vocabulary = Vocabulary.from_directory(directory, special_tokens)
        on_cpu = device_map == "cpu" or not torch.accelerator.is_available()
        dtype = "float32" if dtype == "auto" and on_cpu else dtype
        if isinstance(device_map, str) and device_map != "auto":
            self.model = load_model(directory, dtype=dtype, device=device_map)
        else:
            devices: Mapping[str, str] | Literal["auto"]
            devices = "auto" if isinstance(device_map, str) else device_map
            self.model = load_model(directory, dtype=dtype, device_map=devices)
        self.speaker: SpeechHead | None = read_speaker(directory)
        self.painter = _painter_in(directory)
        self.limits = limits or MediaLimits()
        self._heads_aside = frozenset(tensor_report(directory).left_aside)

    def chat(self, prompt: str | None = None, **request: Unpack[ChatRequest]) -> ChatAnswer:
        """The whole answer at once; arguments as in `stream`."""
        *events, usage = self.stream(prompt, **request)
        assert isinstance(usage, Usage)
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        chunks = [event for event in events if isinstance(event, SpeechChunk)]
        speech = Speech.of_chunks(chunks) if chunks else None
        drawn = next((event for event in events if isinstance(event, Drawing)), None)
        return ChatAnswer(text=text, speech=speech, image=drawn, usage=usage)

    def say(self, text: str, options: SpeechOptions | None = None, *, seed: int = 0) -> Speech:
        """A text, spoken; a seed is of what had to be said again.

        Raises:
            RequestError: this checkpoint has no speech head, the voice is not understood, nothing
                can be said, or the text is too long where `long_form` is False.
        """
        return Speech.of_chunks(list(speak(self._speech_head(), [text], options, seed=seed)))

    def stream(
        self,
        prompt: str | None = None,
        *,
        image: ImageSource | Sequence[ImageSource] | None = None,
        audio: AudioSource | Sequence[AudioSource] | None = None,
        video: MediaSource | Sequence[MediaSource] | None = None,
        messages: Sequence[Message] = (),
        output_form: Sequence[str] = ("text",),
        top_p_routing: float | None = None,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        stop_tokens: Sequence[int] = (),
        voice: str | None = None,
        pace: float = 1.0,
        sentence_split_threshold: int = DEFAULT_MAX_CHARACTERS,
        long_form: bool = True,
        steps: int = DRAWING_STEPS,
        guidance_scale: float = DRAWING_GUIDANCE,
    ) -> AnswerEvents:
        """The answer as it grows, then its usage; closing the iterator cancels the rest.

        Args:
            prompt: the question; it follows the media given beside it.
            image: one source or several: path, data URI, bytes, file, PIL image, pixel array.
            audio: one source or several: path, bytes, file, or (samples, rate in Hz).
            video: one source or several: path, bytes, file; their sound is heard too.
            messages: the conversation so far; prompt and media are the turn that follows it.
            output_form: what to answer with: "text"; "speech" says it sentence by sentence while it
                still comes; "image" draws, once the text is there, what the prompt asks for and the
                text says, and begins with the last picture given, if any.
            top_p_routing: routing threshold in place of the checkpoint's: lower takes fewer
                experts a token.
            max_new_tokens: and all that follow: see `SamplingOptions`.
            temperature: 0 is greedy.
            top_k: None draws among all tokens.
            top_p: below 1 draws among the likeliest.
            min_p: above 0 draws among the likeliest, relative to the best.
            repetition_penalty: above 1 avoids what was said.
            seed: None chooses one, told by the usage.
            stop: one string or several that end the answer.
            stop_tokens: token ids that end it.
            voice: and all that follow: see `SpeechOptions`.  What the model itself wants said in
                another voice is said so.
            pace: 2 is twice as fast.
            sentence_split_threshold: characters that are spoken at once at most.
            long_form: False refuses to speak more than one such piece.
            steps: and all that follow: see `DrawingOptions`.
            guidance_scale: above 1 follows the words closer.

        Raises:
            RequestError: nothing is asked, an option makes no sense, the prompt is too long, or
                the output form is none this checkpoint has.
            MediaError: an input cannot be read, or is beyond a limit.
        """
        speech = SpeechOptions(
            voice=voice,
            pace=pace,
            sentence_split_threshold=sentence_split_threshold,
            long_form=long_form,
        )
        options = SamplingOptions(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            stop_tokens=tuple(stop_tokens),
        )
        parts = media_parts(image=image, audio=audio, video=video)
        if prompt is not None:
            parts = (*parts, TextPart(prompt))
        turn = [Message("user", parts)] if parts else []
        return self.respond(
            [*messages, *turn],
            options,
            top_p_routing=top_p_routing,
            speech=self._speech_of(output_form, speech),
            drawing=self._drawing_of(
                output_form, DrawingOptions(steps=steps, guidance_scale=guidance_scale)
            ),
        )

    def respond(
        self,
        messages: Sequence[Message],
        options: SamplingOptions,
        *,
        top_p_routing: float | None = None,
        speech: SpeechOptions | None = None,
        drawing: DrawingOptions | None = None,
    ) -> AnswerEvents:
        """`stream` for a whole conversation and options that are values already.

        Args:
            messages: end with a user's turn.
            options: how tokens are chosen.
            top_p_routing: as in `stream`.
            speech: how the answer is spoken; None: it is not.
            drawing: how a picture is drawn; None: none is.

        Raises:
            RequestError: the conversation does not end with a user's turn, or is too long; speech
                without a speech head, or in a voice that is not understood.
            MediaError: an input cannot be read, or is beyond a limit.
        """
        if not messages or messages[-1].role != "user":
            raise RequestError(
                "there is nothing to answer; give a prompt, or messages that end with a user's turn"
            )
        sample = encode_chat(messages, self.vocabulary, self.model.config, limits=self.limits)
        pad_id = self.model.config.special_tokens.pad
        batch = collate([sample], pad_id=pad_id, padding="left")
        ends = (*options.stop_tokens, *sorted(self.vocabulary.end_ids))
        options = replace(options, stop_tokens=ends).seeded()
        assert options.seed is not None
        speaking = (
            None if speech is None else Speaking(self._speech_head(), speech, seed=options.seed)
        )
        generation = generate(self.model, batch, options, top_p_routing=top_p_routing)
        painting = None
        if drawing is not None:
            painting = Painting(
                self.model, self.vocabulary, self.drawn_by(), messages[-1], drawing, options.seed
            )
        text = AnswerText(self.vocabulary, options.stop)
        return answer_events(generation, text, speaking, painting)

    def _speech_head(self) -> SpeechHead:
        """The speech head.

        Raises:
            RequestError: this checkpoint has none.
        """
        if self.speaker is None:
            raise RequestError(_missing_head("speech", self._heads_aside))
        return self.speaker

    def _speech_of(self, output_form: Sequence[str], speech: SpeechOptions) -> SpeechOptions | None:
        """How to speak, if speech is among the forms asked for."""
        forms = _forms(output_form)
        if "speech" in forms:
            self._speech_head()
            return speech
        if speech != SpeechOptions():
            raise RequestError(
                "voice, pace, sentence_split_threshold and long_form have no effect on an answer "
                "that is not spoken; add 'speech' to output_form"
            )
        return None

    def drawn_by(self) -> "Painter":
        """The image head.

        Raises:
            RequestError: this checkpoint has none.
        """
        if self.painter is None:
            raise RequestError(_missing_head("image", self._heads_aside))
        return self.painter

    def _drawing_of(
        self, output_form: Sequence[str], drawing: DrawingOptions
    ) -> DrawingOptions | None:
        """How to draw, if a picture is among the forms asked for."""
        if "image" in _forms(output_form):
            self.drawn_by()
            return drawing
        if drawing != DrawingOptions():
            raise RequestError(
                "steps and guidance_scale have no effect on an answer that is not drawn; add "
                "'image' to output_form"
            )
        return None


def media_parts(
    *,
    image: ImageSource | Sequence[ImageSource] | None = None,
    audio: AudioSource | Sequence[AudioSource] | None = None,
    video: MediaSource | Sequence[MediaSource] | None = None,
) -> tuple[Part, ...]:
    """Parts of a message: images, then sounds, then videos, each one source, several, or none."""
    return (
        *(ImagePart(source) for source in _each(image)),
        *(AudioPart(source) for source in _each(audio)),
        *(VideoPart(source) for source in _each(video)),
    )


def _each(sources: Any) -> Sequence[Any]:
    """One source or several as several: a list holds several, and a tuple that is no sound."""
    if sources is None:
        return ()
    is_sound = isinstance(sources, tuple) and len(sources) == 2 and isinstance(sources[1], Real)
    return sources if isinstance(sources, list | tuple) and not is_sound else (sources,)


def _forms(output_form: Sequence[str]) -> tuple[str, ...]:
    """One form or several, all of them known."""
    forms = (output_form,) if isinstance(output_form, str) else tuple(output_form)
    known = get_args(OutputForm)
    for form in forms:
        if form not in known:
            raise RequestError(f"output_form is {form!r}; need some of {', '.join(known)}")
    if not forms:
        raise RequestError("output_form is empty; need ('text',)")
    return forms


def _missing_head(form: str, heads_aside: Collection[str]) -> str:
    """Why there is no such answer; `heads_aside`: what the checkpoint holds, but nobody runs."""
    head = f"{form} head"  # as in the report of the tensors
    holding = (
        f"has {'an' if form == 'image' else 'a'} {head}, which cannot be run yet"
        if head in heads_aside
        else f"has no {head}"
    )
    return f"{form} was asked for, but this checkpoint {holding}; leave output_form at ('text',)"


def _painter_in(directory: Path) -> "Painter | None":
    """The painter that lies there; without one, a second for diffusers is saved."""
    if not (directory / "painter.json").exists():
        return None
    from unimoe.heads.painter import PAINTER, Painter

    return read_head(directory, PAINTER, PainterConfig, Painter)


def _checkpoint_directory(ckpt: str | Path) -> Path:
    if ckpt == "mini":
        return mini_directory()
    directory = Path(ckpt)
    if directory.is_file():
        raise CheckpointError(
            f"{directory} is a file; chat needs a directory with a tokenizer. "
            f"`unimoe convert {directory} DIR --to unimoe` makes one"
        )
    return directory
