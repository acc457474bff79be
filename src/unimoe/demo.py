"""A tour of a model: it is asked about a picture, sounds and a video, and a page shows it all.

In:  a loaded model.  Out: `Answered`, one question after the other; one HTML page of them that
needs no other file. A model with a speech head says its answers, too, and one with a painter draws
where it is asked to.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from PIL import Image

from unimoe.infer.picture import Drawing
from unimoe.infer.session import OmniInference
from unimoe.infer.speech import Speech
from unimoe.infer.usage import Usage
from unimoe.media.encode import encode_image, encode_speech

_PAUSE_SECONDS = 0.6  # between the spoken answers


class Question(NamedTuple):
    """What is asked; media are files of `unimoe.samples`."""

    prompt: str | None
    """None: the question is spoken."""
    image: str | None = None
    audio: str | None = None
    video: str | None = None
    is_drawn: bool = False
    """Whether the answer is a picture, too."""

    @property
    def media(self) -> dict[str, str]:
        """File by kind, of those that are shown."""
        shown = {"image": self.image, "audio": self.audio, "video": self.video}
        return {kind: file for kind, file in shown.items() if file is not None}


class Answered(NamedTuple):
    """A question and what the model said to it."""

    question: Question
    answer: str
    usage: Usage
    seconds: float
    """From question to the end of the answer."""
    speech: Speech | None = None
    """None: the model has no speech head, or there was nothing to say."""
    drawing: Drawing | None = None
    """None: nothing was to be drawn, or the model has no painter."""


TOUR = (
    Question(None, image="shapes.png", audio="ask.flac"),
    Question("What color is the circle?", image="shapes.png"),
    Question("Transcribe the speech.", audio="note.flac"),
    Question("What do you hear?", audio="bell.flac"),
    Question("In which direction does the circle move?", video="ball.mp4"),
    Question("Make the red circle green.", image="scene.png", audio="ask.flac", is_drawn=True),
    Question("Draw a strawberry.", is_drawn=True),
)
"""The last but one is asked all at once: words, a spoken question and a picture."""


def tour(model: OmniInference) -> Iterator[Answered]:
    """Ask all questions of the tour, greedily."""
    for question in TOUR:
        forms = ["text"]
        if model.speaker is not None:
            forms.append("speech")
        if question.is_drawn and model.painter is not None:
            forms.append("image")
        media = {kind: sample(file) for kind, file in question.media.items()}
        begun = time.monotonic()
        answer = model.chat(
            question.prompt,
            **media,  # type: ignore[arg-type]
            max_new_tokens=48,
            output_form=forms,
        )
        seconds = time.monotonic() - begun
        text, speech, drawing = answer.text.strip(), answer.speech, answer.image
        yield Answered(question, text, answer.usage, seconds, speech, drawing)


def said(answered: Sequence[Answered]) -> Speech | None:
    """All spoken answers one after the other; None: there are none."""
    spoken = [each.speech for each in answered if each.speech is not None]
    if not spoken:
        return None
    rate_hz = spoken[0].sample_rate_hz
    pause = np.zeros(round(_PAUSE_SECONDS * rate_hz), np.float32)
    return Speech(
        np.concatenate([part for each in spoken for part in (each.samples, pause)]), rate_hz
    )


def drawn(answered: Sequence[Answered]) -> Drawing | None:
    """The last picture that was drawn; None: there is none."""
    return next((each.drawing for each in reversed(answered) if each.drawing is not None), None)


def sample(file: str) -> bytes:
    """A shipped medium."""
    return (files("unimoe") / "samples" / file).read_bytes()


_PAGE = """<!doctype html>
<meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; }}
section {{ display: grid; grid-template-columns: 14rem 1fr; gap: 1.5rem; padding: 1.2rem 0;
  border-top: 1px solid #ddd; align-items: center; }}
img, video, audio {{ width: 100%; margin: .2rem 0; }}
.answer {{ font-size: 1.3rem; font-weight: 600; margin: .3rem 0; }}
small {{ color: #666; }}
</style>
<h1>{title}</h1>
{sections}
"""
_SECTION = """<section><div>{media}</div><div>
<div>{prompt}</div><div class="answer">{answer}</div>{speech}{drawing}
<small>{cost}</small></div></section>"""


def page(answered: Sequence[Answered], title: str) -> str:
    """All questions and answers as HTML, the media inside."""
    sections = [
        _SECTION.format(
            media="".join(map(_medium, each.question.media.values())),
            prompt=html.escape(each.question.prompt or "(asked aloud)"),
            answer=html.escape(each.answer) or "&nbsp;",
            speech="" if each.speech is None else _player(each.speech),
            drawing="" if each.drawing is None else _shown(each.drawing),
            cost=html.escape(cost_line(each)),
        )
        for each in answered
    ]
    return _PAGE.format(title=html.escape(title), sections="\n".join(sections))


def cost_line(answered: Answered) -> str:
    """Such as "0.6 s · 38 tokens in, 3 out · 1.5 experts a token, 5% skipped"."""
    usage = answered.usage
    tokens = f"{sum(usage.prompt_tokens.values())} tokens in, {usage.new_tokens} out"
    pieces = [f"{answered.seconds:.1f} s", tokens]
    if usage.experts_per_token is not None and usage.null_share is not None:
        experts = f"{usage.experts_per_token:.1f} experts a token, {usage.null_share:.0%} skipped"
        pieces.append(experts)
    if usage.speech is not None:
        pieces.append(f"{usage.speech.seconds:.1f} s of speech")
    return " · ".join(pieces)


def _medium(file: str) -> str:
    kind = mimetypes.guess_type(file)[0] or "audio/flac"
    source = _data_uri(kind, sample(file))
    if kind.startswith("image"):
        return f'<img src="{source}" alt="{html.escape(file)}">'
    tag = kind.partition("/")[0]
    return f'<{tag} controls src="{source}"></{tag}>'


def _player(speech: Speech) -> str:
    sound = encode_speech(speech.samples, speech.sample_rate_hz, ".mp3")
    return f'<audio controls src="{_data_uri("audio/mpeg", sound)}"></audio>'


def _shown(drawing: Drawing) -> str:
    picture = encode_image(Image.fromarray(drawing.pixels))
    return f'<img src="{_data_uri("image/webp", picture)}" alt="what it drew">'


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
