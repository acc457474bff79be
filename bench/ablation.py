"""Dense against mixture at equal steps, from the same start: what the experts of mini buy.

    python bench/ablation.py runs/mini [--steps 60] [--only mixture]

Every contestant begins with the connectors that the stages `words` and `pictures` of the run
taught, which stay as they are, and with deltas of zero; all read the same batches of everything
mini is trained on.
`dense`: one delta of rank 16, as much work a token as one expert; `wide`: one of rank 64, as many
learned numbers as four experts; `mixture`: four of rank 16, routers aimed at the modalities.
Printed: loss a token on the validation sets, experts a token, and CPU seconds of training.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from unimoe.model.omni import OmniModel
from unimoe.model.specialists import specialist_moe, with_deltas
from unimoe.recipes import mini
from unimoe.recipes.mini_routing import Teaching, aim_at_modalities
from unimoe.train.journal import read_journal
from unimoe.train.loop import train

LEARNS = {"core.layers.*.ffn.deltas.routed.*": 1.0}
ROUTERS = {"core.layers.*.ffn.router.*": 1.0, "core.layers.*.ffn.deltas.shared.*": 1.0}


def dense(runs: Path, rank: int) -> OmniModel:
    """One delta."""
    model = mini._connected(runs)
    return with_deltas(model, specialist_moe(model.config.core.ffn_width, rank))


def mixture(runs: Path) -> OmniModel:
    """Four, of which each modality has its own."""
    start = mini._connected(runs)
    model = with_deltas(start, mini.mini_moe())
    taught_by = [mini.IMAGES | mini.VIDEO, mini.TRANSCRIPTS, mini.SOUNDS, mini.TEXT]
    aim_at_modalities(
        model,
        {
            expert: Teaching(start, list(mini._sets(start, names, "train").values()))
            for expert, names in enumerate(taught_by)
        },
    )
    return model


CONTESTANTS: dict[str, Callable[[Path], OmniModel]] = {
    "dense": lambda runs: dense(runs, 16),
    "wide": lambda runs: dense(runs, 64),
    "mixture": mixture,
}


def main() -> None:
    """Train each and print what it reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", choices=CONTESTANTS, action="append")
    options = parser.parse_args()
    mixed = mini.mini_stages()["mixed"].plan
    plan = dataclasses.replace(
        mixed, steps=options.steps, evaluate_every=options.steps, lr=1e-3, learns=LEARNS
    )
    for name in options.only or CONTESTANTS:
        model = CONTESTANTS[name](options.runs)
        own = plan
        if name == "mixture":
            own = dataclasses.replace(plan, learns=LEARNS | ROUTERS)
        mini._keep_precise(model, own.learns)
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            train(
                model,
                mini._sets(model, own.mixture, "train"),
                own,
                Path(folder),
                validation=mini._sets(model, own.mixture, "validation"),
            )
            seconds = time.process_time() - began
            validation = [line for line in read_journal(Path(folder)) if "validation" in line][-1]
        losses = {key: found["text"] for key, found in validation["validation"].items()}
        experts = [f.get("experts_per_token", 1.0) for f in validation["validation"].values()]
        mean, taken = sum(losses.values()) / len(losses), sum(experts) / len(experts)
        print(f"{name}: mean loss {mean:.3f}, {taken:.2f} experts a token, {seconds:.0f} CPU s")
        print("  " + ", ".join(f"{key} {loss:.3f}" for key, loss in losses.items()), flush=True)


if __name__ == "__main__":
    main()
