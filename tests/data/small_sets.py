"""A small data set with a picture, a sound and a film, one in each split."""

from pathlib import Path

import numpy as np
from PIL import Image

from unimoe.data import DataCard, DatasetWriter, OmniSample, Turn

CARD = DataCard(subject="Shapes.", source="Drawn here.", licence="CC0", split_rule="By colour.")


def sample(key: str, question: str = "What is it?", **fields: object) -> OmniSample:
    turns = (Turn("user", question), Turn("assistant", "A shape."))
    return OmniSample(id=key, conversations=turns, task="shape", **fields)


def picture(level: int) -> Image.Image:
    return Image.fromarray(np.full((20, 30, 3), level, np.uint8))


def tone(hertz: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(8000) / 16000)).astype(np.float32)


def build_shapes(folder: Path) -> None:
    with DatasetWriter(folder, "shapes", seed=3, held_out={"voice": {"slt"}}) as writer:
        image = writer.image("grey", picture(90))
        writer.add("train", sample("a", "<image> What is it?", images=(image,)))
        sound = writer.audio("tone", tone(440), 16000)
        traits = {"voice": "slt"}
        writer.add("test", sample("b", "<audio> What is it?", audios=(sound,), traits=traits))
        frames = [np.full((32, 48, 3), 30 * i, np.uint8) for i in range(6)]
        film = writer.video("film", frames, 2, sound=(tone(880), 16000))
        writer.add("validation", sample("c", "<video> What is it?", videos=(film,)))
        writer.close(CARD)
