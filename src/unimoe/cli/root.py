"""The root of all commands, and its groups."""

from typing import Literal

import typer

HELP_WIDTH = 100

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
