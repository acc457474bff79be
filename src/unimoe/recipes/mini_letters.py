"""Letters: pictures of text for alignment, drawn as they are asked for, read by their pixels alone.

In:  texts to draw, the image encoder.  Out: `TrainSample`s without end.
What DINOv2 says of a picture takes 0.1 s, drawing it 0.02; and a connector soon knows by heart what
it says of some thousand pictures of text. Of pixels it can see new ones at every step.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch

from unimoe.config import OmniConfig
from unimoe.data.build.ocr import TASK, WrittenTexts
from unimoe.encoders.vision import VisionEncoder
from unimoe.tokens.message import ImagePart, Message, TextPart
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.batches import TrainSample
from unimoe.train.features import lay_out

FIRST = 1_000_000
"""Number of the first picture: those before it are of the data set."""
_NUM_PICTURES = 60_000
"""More than a stage asks for."""
_SHORT_LEFT_OUT = 5
"""Of as many pictures of one line one is taken: two lines, which are the hardest to keep apart,
would be a tenth of all, and are a third so."""
_QUESTION = "What does it say?"


class LetterSamples:
    """A source of pictures of text whose states hold no word of the tower."""

    def __init__(
        self,
        texts: WrittenTexts,
        encoder: VisionEncoder,
        vocabulary: Vocabulary,
        config: OmniConfig,
    ) -> None:
        self._texts = texts
        self._encoder, self._vocabulary, self._config = encoder, vocabulary, config
        self._numbers = list(
            itertools.islice(filter(self._is_taken, itertools.count(FIRST)), _NUM_PICTURES)
        )
        # A token a letter, so the text alone says how long a sample is.
        beside = len(self[0].sample.input_ids) - len(self._said(0))
        self.lengths = [beside + len(self._said(index)) for index in range(_NUM_PICTURES)]

    def __getitem__(self, index: int, /) -> TrainSample:
        picture, omni = self._texts.draw("train", self._numbers[index])
        messages = [
            Message("user", (ImagePart(picture), TextPart(_QUESTION))),
            Message("assistant", (TextPart(omni.answers[0]),)),
        ]
        sample, told = lay_out(omni, messages, self._vocabulary, self._config)
        assert sample.pixel_values is not None  # one picture
        with torch.inference_mode():
            states = self._encoder.pixel_states(sample.pixel_values.float())
        seen = dataclasses.replace(sample, pixel_values=None, image_states=states.clone())
        return TrainSample(seen, TASK, "image", tuple(told))

    def _said(self, index: int) -> str:
        return self._texts.text("train", self._numbers[index]).words

    def _is_taken(self, number: int) -> bool:
        is_short = len(self._texts.text("train", number).lines) == 1
        return not is_short or number % _SHORT_LEFT_OUT == 0
