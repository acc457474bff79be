"""The `unimoe` command: results on stdout, everything else on stderr.

In:  command-line arguments.  Out: an exit code: 0, 1 for a failure, 2 for misuse, 130 for Ctrl-C.
Every command is a thin door to a library function, imported when the command runs: `--help` needs
no torch.
"""

import contextlib
import dataclasses
import json
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unimoe.errors import ConfigError, RequestError, UnimoeError

if TYPE_CHECKING:
    from unimoe.infer.sampling import SamplingOptions
    from unimoe.infer.session import OmniInference, TextDelta
    from unimoe.infer.usage import Usage
    from unimoe.tokens.message import Message, Part

HELP_WIDTH = 100

app = typer.Typer(
    help="Run omnimodal mixture-of-experts models on text, images, sound and video.",
    epilog="--debug, anywhere, shows the traceback of an error.",
    add_completion=False,
    rich_markup_mode=None,
    # A fixed width, so that docs/help.md does not depend on anybody's terminal.
    context_settings={"terminal_width": HELP_WIDTH},
)

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


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
    dtype: Annotated[Dtype, typer.Option(help="auto: float32 on a CPU.")] = "auto",
    device: Annotated[str, typer.Option(help="auto: the first GPU, else the CPU.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object an answer.")] = False,
) -> None:
    """Answer a question about text, images, sound and video.

    Without a question, a conversation: a line each turn; /image FILE, /audio FILE and /video FILE
    attach to the next one, /reset forgets, /exit ends. Ctrl-C stops an answer, Ctrl-D ends.
    """
    if question == "-":
        question = sys.stdin.read().strip()
        if not question:
            raise RequestError("the question on stdin is empty; write it there, or give it as text")
    from unimoe.infer.sampling import SamplingOptions
    from unimoe.infer.session import media_parts
    from unimoe.tokens.message import message

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
    talk = _Talk(
        session=_load(model, device, dtype),
        sampling=sampling,
        top_p_routing=top_p_routing,
        as_json=as_json,
        opening=[message("system", system)] if system is not None else [],
        attached=list(media_parts(image=image, audio=audio, video=video)),
    )
    if question is None:
        talk.converse()
    else:
        talk.ask(question)


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Checkpoint directory.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a checkpoint is made of, without loading it."""
    from unimoe.model.inspect import describe

    inspection = describe(directory)
    print(json.dumps(dataclasses.asdict(inspection)) if as_json else inspection)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Checkpoint directory.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Directory to write.")],
    *,
    to: Annotated[Literal["released", "unimoe"], typer.Option(help="Names of the tensors in DST.")],
) -> None:
    """Rewrite a checkpoint with the names of the release, or with ours; no value changes."""
    from unimoe.model.weights import convert

    convert(source, target, dialect=to)


@app.command()
def tiny(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory to write.")],
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
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


@dataclasses.dataclass(slots=True)
class _Talk:
    """A conversation on the terminal."""

    session: "OmniInference"
    sampling: "SamplingOptions"
    top_p_routing: float | None
    as_json: bool
    opening: "list[Message]"
    """What stays when the conversation is forgotten."""
    attached: "list[Part]"
    """What goes with the next question."""
    turns: "list[Message]" = dataclasses.field(default_factory=list)

    def converse(self) -> None:
        """Answer line after line, until /exit or the end of stdin."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  lets input() edit and recall lines
        while (line := _read_line()) not in (None, "/exit"):
            command, _, argument = line.partition(" ")
            if command == "/reset":
                self.turns.clear()
            elif command in ("/image", "/audio", "/video"):
                self._attach(command.removeprefix("/"), argument.strip())
            elif line:
                self._ask_and_go_on(line)

    def ask(self, question: str) -> None:
        """Print the answer to a question, and remember both."""
        from unimoe.tokens.message import message

        turn = message("user", *self.attached, question)
        self.attached = []
        events = self.session.respond(
            [*self.opening, *self.turns, turn], self.sampling, top_p_routing=self.top_p_routing
        )
        text: list[str] = []
        try:
            self._print(events, text)
        finally:  # stopped by Ctrl-C, the part that was shown is what was said
            self.turns += [turn, message("assistant", "".join(text))]

    def _ask_and_go_on(self, question: str) -> None:
        """As `ask`; at a terminal, errors and Ctrl-C do not end the conversation."""
        try:
            self.ask(question)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            print("\n[stopped]", file=sys.stderr)
        except UnimoeError as error:
            if not sys.stdin.isatty():
                raise
            _report(str(error))

    def _attach(self, kind: str, source: str) -> None:
        from unimoe.infer.session import media_parts

        self.attached += media_parts(**{kind: source})

    def _print(self, events: "Iterator[TextDelta | Usage]", text: list[str]) -> None:
        """Show the answer, and collect its pieces in `text` while they come."""
        from unimoe.infer.session import TextDelta

        for event in events:
            if isinstance(event, TextDelta):
                text.append(event.text)
                if not self.as_json:
                    print(event.text, end="", flush=True)
            elif self.as_json:
                print(json.dumps(_answer_object("".join(text), event)))
            else:
                print(flush=True)
                print(_usage_line(event), file=sys.stderr)


def _load(model: str, device: str, dtype: str) -> "OmniInference":
    from rich.console import Console

    console = Console(stderr=True)
    waiting = (
        console.status(f"loading {model}") if console.is_terminal else contextlib.nullcontext()
    )
    with waiting:
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
