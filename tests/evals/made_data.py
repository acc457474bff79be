"""Tiny data sets for evaluations of the tiny checkpoint."""

import wave
from pathlib import Path

import numpy as np
from PIL import Image

from unimoe.data.manifest import write_manifest
from unimoe.data.sample import OmniSample, Turn

COLOURS = ("red", "green", "blue", "white")


def made_data(folder: Path, *, num_items: int = 6) -> Path:
    """A folder of two data sets: `colours` (pictures and text) and `words` (sounds)."""
    _colours(folder / "colours", num_items)
    _words(folder / "words", 3)
    return folder


def question(number: int, colour: str, **more) -> OmniSample:
    return OmniSample(
        id=f"colour-{number}",
        conversations=(
            Turn("user", "<image>" * len(more.get("images", ())) + "What colour?"),
            Turn("assistant", colour),
        ),
        answers=(colour,),
        **more,
    )


def _colours(folder: Path, num_items: int) -> None:
    (folder / "images").mkdir(parents=True)
    samples = []
    for number in range(num_items):
        colour = COLOURS[number % len(COLOURS)]
        path = f"images/{number}.png"
        Image.new("RGB", (40 + number, 40), colour).save(folder / path)
        traits = {"style": "flat", "question": str(number)}
        samples.append(question(number, colour, images=(path,), task="shown", traits=traits))
    samples.append(question(99, "red", task="told", traits={"style": "none", "question": "0"}))
    write_manifest(folder / "test.jsonl", samples)


def _words(folder: Path, num_items: int) -> None:
    (folder / "audios").mkdir(parents=True)
    samples = []
    for number in range(num_items):
        path = f"audios/{number}.wav"
        tone = np.sin(np.arange(16_000) * (0.05 + 0.05 * number)) * 9000
        with wave.open(str(folder / path), "wb") as sound:
            sound.setparams((1, 2, 16_000, 0, "NONE", ""))
            sound.writeframes(tone.astype("<i2").tobytes())
        turns = (Turn("user", "<audio>Write down."), Turn("assistant", "one colour"))
        samples.append(
            OmniSample(
                id=f"word-{number}",
                conversations=turns,
                audios=(path,),
                task="asr",
                answers=("one colour",),
                traits={"voice": "ann" if number else "bob"},
            )
        )
    write_manifest(folder / "test.jsonl", samples)
