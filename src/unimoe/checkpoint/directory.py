"""A checkpoint opened but not read: its configuration, its tensors by name, and where they belong.

In:  a directory (our dialect, released, dense Qwen2 or Llama) or a GGUF file.
Out: `Checkpoint`, whose `report` tells what fits before a byte of weights is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from unimoe.checkpoint.dialects import Dialect, config_from_json, dialect_of, origin_of
from unimoe.checkpoint.gguf import GGUFFile
from unimoe.checkpoint.slots import (
    EMBEDDING_KEY,
    HEAD_KEY,
    Slot,
    TensorReport,
    compare,
    own_slots,
    transformers_slots,
)
from unimoe.checkpoint.storage import SafetensorsFiles, TensorSource, read_json
from unimoe.config import OmniConfig
from unimoe.errors import CheckpointError
from unimoe.model.allocate import parameter_shapes

CONFIG_NAME = "config.json"


def slots_in(dialect: Dialect, config: OmniConfig) -> dict[str, Slot]:
    """Where the tensors of a checkpoint of that dialect belong."""
    shapes = parameter_shapes(config)
    return own_slots(shapes) if dialect == "unimoe" else transformers_slots(shapes, config.core)


@dataclass(frozen=True)
class Checkpoint:
    """What a directory or file holds."""

    path: Path
    dialect: Dialect
    config: OmniConfig
    origin: Mapping[str, Any] | None
    """The released `config.json` it was or comes from, as it stood."""
    declared_dtype: str | None
    """What `config.json` says the weights are to be held in; they may be stored otherwise."""
    tensors: TensorSource

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """Where its tensors belong."""
        return slots_in(self.dialect, self.config)

    @cached_property
    def report(self) -> TensorReport:
        """What fits, from names and shapes alone."""
        types = self.tensors.stored_types
        return compare(
            self.slots,
            self.tensors.shapes,
            foreign={key: types[key] for key in types if key not in self.tensors.dtypes},
            ties_embeddings=self.config.core.ties_embeddings,
        )

    def require_complete(self) -> None:
        """Stop unless every slot is filled and every stored tensor accounted for.

        Heads that are not loaded yet are accounted for; the report names them.

        Raises:
            CheckpointError: with the table of what is wrong.
        """
        if not self.report.is_complete:
            raise CheckpointError(
                f"{self.path} does not hold the model its configuration describes:\n"
                f"{self.report.table()}"
            )
        self._require_tied_head()

    def _require_tied_head(self) -> None:
        """A stored copy of tied embeddings has to be one."""
        if HEAD_KEY not in self.report.redundant:
            return
        if not torch.equal(self.tensors.read(HEAD_KEY), self.tensors.read(EMBEDDING_KEY)):
            raise CheckpointError(
                f"{self.path}: tie_word_embeddings is true, but {HEAD_KEY} differs from "
                f"{EMBEDDING_KEY}; set it to false in config.json to keep both"
            )


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint of any dialect.

    Raises:
        CheckpointError: nothing readable there, or something damaged, foreign or unsafe.
    """
    if path.suffix == ".gguf":
        file = GGUFFile(path)
        return Checkpoint(path, "dense", file.config, None, None, file)
    tensors = SafetensorsFiles(path)
    values = config_values(path)
    config = _config(path, values)
    origin = origin_of(values)
    declared = _declared_dtype(values if origin is None else origin)
    return Checkpoint(path, dialect_of(values), config, origin, declared, tensors)


def read_config(path: str | Path) -> OmniConfig:
    """The configuration of a checkpoint of any dialect, without looking at its weights.

    Raises:
        CheckpointError: no `config.json`, or one that we cannot follow.
    """
    path = Path(path)
    return GGUFFile(path).config if path.suffix == ".gguf" else _config(path, config_values(path))


def config_values(directory: Path) -> dict[str, Any]:
    """The object of a directory's `config.json`."""
    return read_json(directory / CONFIG_NAME)


def _declared_dtype(values: Mapping[str, Any]) -> str | None:
    """Its older and its newer name; some write "torch.bfloat16"."""
    name = values.get("torch_dtype") or values.get("dtype")
    return str(name).removeprefix("torch.") if name else None


def _config(directory: Path, values: Mapping[str, Any]) -> OmniConfig:
    try:
        return config_from_json(values)
    except CheckpointError as error:
        raise CheckpointError(f"{directory / CONFIG_NAME}: {error}") from error
