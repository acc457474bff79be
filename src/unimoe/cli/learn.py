"""Commands that teach: train, and the data sets that are learned from."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from unimoe.cli.root import app, data


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
