"""Speech judged by what an ear makes out of it: a reader's sound, written down, is the answer.

In:  samples of sentences read aloud.  Out: `Answers`, to be judged as transcripts are.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from unimoe.data.sample import OmniSample, Turn
from unimoe.evals.answer import Answer, Answers
from unimoe.evals.baselines import Ear
from unimoe.evals.readers import Reader, as_source
from unimoe.evals.task import TaskItems


class Listener:
    """Answers with what it hears.

    Args:
        reader: makes the sound of a sample.
        ear: writes it down.
    """

    def __init__(self, reader: Reader, ear: Ear) -> None:
        self._reader = reader
        self._ear = ear

    def answer(self, samples: Sequence[OmniSample], folder: Path, max_new_tokens: int) -> Answers:
        """Read and write down; an ear knows by itself when to stop."""
        sounds = (self._reader.read(sample, folder) for sample in samples)
        heard = self._ear.transcribe([as_source(sound) for sound in sounds])
        return Answers([Answer(text=text) for text in heard])


def paragraphs(items: TaskItems, num_sentences: int) -> TaskItems:
    """The samples in a row, so many as one; what is left over is left out."""
    starts = range(0, len(items.samples) - num_sentences + 1, num_sentences)
    samples = tuple(_joined(items.samples[start : start + num_sentences]) for start in starts)
    digest = sha256(f"{items.sha256} {num_sentences}".encode()).hexdigest()
    return replace(items, samples=samples, num_available=len(samples), sha256=digest)


def _joined(samples: Sequence[OmniSample]) -> OmniSample:
    text = " ".join(sample.answers[0] for sample in samples)
    audios = tuple(path for sample in samples for path in sample.audios)
    return OmniSample(
        id=" / ".join(sample.id for sample in samples),
        conversations=(Turn("user", text), Turn("assistant", "<audio>" * len(audios))),
        audios=audios,
        task=samples[0].task,
        answers=(text,),
        traits={"voice": samples[0].traits["voice"]},
    )
