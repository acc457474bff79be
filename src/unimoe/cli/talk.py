"""Commands that answer: chat, say, draw and demo."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unimoe.cli.root import Dtype, app
from unimoe.cli.terminal import load, report_line
from unimoe.config import DRAWING_GUIDANCE, DRAWING_STEPS
from unimoe.errors import RequestError, UnimoeError

if TYPE_CHECKING:
    from unimoe.infer.answering import AnswerEvents
    from unimoe.infer.conversation import Conversation
    from unimoe.infer.usage import Usage

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
        load(model, device, dtype),
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
    seed: Annotated[int, typer.Option(help="Of what had to be said again.")] = 0,
) -> None:
    """Say a text of any length, as it stands; the model must have a speech head."""
    from unimoe.infer.speech import SpeechOptions

    options = SpeechOptions(voice=voice, pace=pace)
    session = load(model, "auto", "auto")
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

    session = load(model, "cpu", dtype)
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
    for each in tour(load(model, "auto", "auto")):
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
        report_line(str(error))


def _show(events: "AnswerEvents", as_json: bool, speak: Path | None, picture: Path | None) -> None:
    """Print an answer while it comes, or one JSON object when it is there; keep the rest of it."""
    from unimoe.infer.answering import TextDelta
    from unimoe.infer.picture import Drawing
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
        report_line(f"the answer holds nothing that can be said; {speak} is not written")


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


def _answer_object(text: str, usage: "Usage") -> dict[str, Any]:
    spent = dataclasses.asdict(usage)
    outcome = {name: spent.pop(name) for name in ("finish_reason", "seed")}
    return {"text": text, **outcome, "usage": spent}


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
