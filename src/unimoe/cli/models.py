"""Commands on checkpoints: inspect, convert, upcycle and tiny."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unimoe.cli.root import app
from unimoe.cli.terminal import waiting
from unimoe.errors import RequestError

if TYPE_CHECKING:
    from unimoe.checkpoint.inspect import Inspection
    from unimoe.model.omni import OmniModel

_PROBE = """The museum opens at nine. A guide meets the visitors at the door and leads them through
the old town: first the harbour, where 40 ships can lie, then the market, and at last the tower. "Is
it far?" asks a child. It is not; from the bridge one sees all of it at once."""


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

    with waiting(f"converting {source}"):
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
    with waiting(f"upcycling {dense}"):
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
