"""Commands that look at a model: eval, rescore and plots."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from unimoe.cli.root import Dtype, app, plot
from unimoe.cli.terminal import load
from unimoe.errors import RequestError


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Checkpoint directory.")] = "mini",
    *,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="May be repeated.", show_default="all"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Items a task, drawn by hash.", show_default="all"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Records and report.", show_default="eval-MODEL"),
    ] = None,
    data_folder: Annotated[
        str | None,
        typer.Option("--data", metavar="DIR", help="Data sets.", show_default="those built"),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also ask blind, cascade or probe; may be repeated.",
            show_default="none",
        ),
    ] = None,
    top_p_routing: Annotated[
        list[float] | None,
        typer.Option(
            help="Routing threshold; repeated, one evaluation each and a table of all.",
            show_default="the checkpoint's",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts at a time.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the draw by --limit.")] = 0,
    states: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Keep what frozen towers compute, for the next time."),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="auto: float32 on a CPU.")] = "auto",
    device: Annotated[str, typer.Option(help="auto: all accelerators, else the CPU.")] = "auto",
) -> None:
    """Measure a model on test splits: scores, 95 % intervals, chance, baselines, expert use.

    Interrupted, it goes on where it stopped when called again; tasks can be added one by one.
    """
    from unimoe.evals.suite import EvalOptions
    from unimoe.evals.tasks.mini_run import evaluate_mini, mini_data

    options = EvalOptions(
        data=mini_data() if data_folder is None else Path(data_folder),
        tasks=tuple(task or ()),
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        states=None if states is None else Path(states),
    )
    report = evaluate_mini(
        load(model, device, dtype),
        options,
        Path(f"eval-{Path(model).name}" if out is None else out),
        name=Path(model).name,
        command=f"unimoe {shlex.join(sys.argv[1:])}",
        thresholds=tuple(top_p_routing or (None,)),
        baselines=tuple(baseline or ()),
        progress=_show_progress,
    )
    print(report, end="")


@app.command()
def rescore(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of an evaluation.")],
) -> None:
    """Judge the recorded answers of an evaluation again, without any model."""
    from unimoe.evals.tasks.mini_run import rescore_mini

    print(rescore_mini(Path(folder)), end="")


@plot.command()
def run(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Of a stage of `train`.")],
) -> None:
    """Draw the curves of a training run, and its expert use, into its folder."""
    from unimoe.train.plots import draw_run

    for path in draw_run(Path(folder)):
        print(path)


@plot.command()
def router(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="An evaluation, a training run, or a checkpoint to ask --question."
        ),
    ],
    *,
    out: Annotated[str, typer.Option(metavar="FILE.png", help="The picture.")] = "router.png",
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Draw the routing of this chat.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Show an image; may be repeated.")
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Play a sound; may be repeated.")
    ] = None,
    video: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Show a video; may be repeated.")
    ] = None,
) -> None:
    """Draw which experts the tokens of each modality take, layer by layer."""
    from unimoe.evals.picture import draw_expert_use
    from unimoe.evals.routing import read_expert_use, routed_chat
    from unimoe.infer.session import media_parts
    from unimoe.tokens.message import message

    if question is None and (image or audio or video):
        raise RequestError("media were given, but no --question to ask about them")
    if question is None:
        draw_expert_use(read_expert_use(Path(source)), Path(out))
    else:
        turn = message("user", *media_parts(image=image, audio=audio, video=video), question)
        chat = routed_chat(load(source, "auto", "auto"), [turn])
        draw_expert_use(chat.expert_use, Path(out), title=f"Expert use while answering: {question}")
        print(chat.text)
    print(out, file=sys.stderr)


@plot.command()
def speech(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Checkpoint directory.")] = "mini",
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Sounds and picture.")] = "speech-samples",
) -> None:
    """Write recordings, the same through the codec, and the model's own speech, with spectra."""
    from unimoe.evals.speech_samples import write_speech_samples
    from unimoe.evals.tasks.mini import MINI
    from unimoe.evals.tasks.mini_run import mini_data, mini_speaker

    speaker = mini_speaker(load(model, "cpu", "auto"))
    for path in write_speech_samples(speaker, MINI.voices, mini_data(), Path(out)):
        print(path)


def _show_progress(name: str, done: int, total: int) -> None:
    """On a terminal, one line that grows; else a line a window."""
    end = "\r" if sys.stderr.isatty() and done < total else "\n"
    print(f"{name}: {done} of {total}", end=end, file=sys.stderr, flush=True)
