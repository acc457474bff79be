"""The `unimoe` command: results on stdout, everything else on stderr.

In:  command-line arguments.  Out: an exit code: 0, 1 for a failure, 2 for misuse, 130 for Ctrl-C.
Every command is a thin door to a library function, imported when the command runs: `--help` needs
no torch.

    talk.py     chat, say, draw, demo
    models.py   inspect, convert, upcycle, tiny
    learn.py    train, data build, data show
    measure.py  eval, rescore, plot run, plot router, plot speech
    fetch.py    parts list, parts pull, parts verify
"""

from unimoe.cli import talk, models, learn, measure, fetch  # noqa: F401, I001  in the order of --help
from unimoe.cli.root import app
from unimoe.cli.run import main

__all__ = ["app", "main"]
