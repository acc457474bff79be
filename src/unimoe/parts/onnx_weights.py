"""The DINOv2 backbone inside an ONNX graph, as tensors of transformers' Dinov2Model.

In:  an ONNX file whose nodes and tensors lie under `backbone`, as PyTorch's exporter names them.
Out: float32 arrays by parameter name. The position table stays as it is stored: a class position
and a 37 x 37 grid; the model itself resamples it for another number of patches.
Biases, norms and scales keep their names in such a file. Matrices lose theirs, so they are found as
the operand of the MatMul that carries the layer's name, and turned from (in, out) to (out, in).
Source: ONNX; parameter names of transformers 5 (docs/sources.md#parts).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from unimoe.errors import PartsError

Weights: TypeAlias = dict[str, Float32[np.ndarray, "..."]]

_SCOPE = "backbone"
_RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
_OF_A_LAYER = (
    *(f"norm{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
    *(f"attention.{name}_proj.{kind}" for name in "qkvo" for kind in ("weight", "bias")),
    *(f"mlp.fc{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
    "layer_scale1.lambda1",
    "layer_scale2.lambda1",
)
_OUTSIDE_LAYERS = (
    "embeddings.cls_token",
    "embeddings.mask_token",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.bias",
    "layernorm.weight",
    "layernorm.bias",
)


def dinov2_weights(path: Path) -> Weights:
    """Every parameter of a Dinov2Model, by transformers' name.

    The mask token, which only pretraining uses and no graph holds, is zero.

    Raises:
        PartsError: no ONNX file, or one without a whole DINOv2 under `backbone`.
    """
    graph = _read(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    weights = {
        _renamed(name.removeprefix(f"{_SCOPE}.")): _array(tensor)
        for name, tensor in stored.items()
        if name.startswith(f"{_SCOPE}.")
    }
    weights |= _matrices(graph.node, stored)
    weights["embeddings.position_embeddings"] = _position_table(graph.node, stored, path)
    _require_whole(weights, path)
    return weights


def _read(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise PartsError(
            f"{path}: ONNX files need the onnx package, which is not installed; pip install onnx"
        ) from error
    try:
        # Tensors in files beside this one would be paths to anywhere; they are not followed.
        return onnx.load(path, load_external_data=False)
    except OSError as error:
        raise PartsError(f"{path}: cannot be read ({error})") from error
    except Exception as error:  # the protobuf reader's own error types are not public
        raise PartsError(f"{path}: no ONNX file, or damaged ({error})") from error


def _array(tensor: Any) -> Float32[np.ndarray, "..."]:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type != TensorProto.FLOAT or tensor.data_location == TensorProto.EXTERNAL:
        raise PartsError(f"{tensor.name}: stored outside the file or not in float32; need float32")
    return np.array(numpy_helper.to_array(tensor))


def _matrices(nodes: Any, stored: Mapping[str, Any]) -> Weights:
    """Weights of the linear layers, by the scope of the product that uses them."""
    matrices: Weights = {}
    for node in nodes:
        scope = re.fullmatch(rf"/{_SCOPE}/(.+)/MatMul", node.name)
        if scope and node.op_type == "MatMul" and node.input[1] in stored:
            name = _renamed(scope[1].replace("/", ".") + ".weight")
            matrices[name] = np.ascontiguousarray(_array(stored[node.input[1]]).T)
    return matrices


def _position_table(
    nodes: Any, stored: Mapping[str, Any], path: Path
) -> Float32[np.ndarray, "1 positions width"]:
    """The class position and the grid: the nameless constants of the embedding's own nodes."""
    constants = {
        node.op_type: _array(stored[name])
        for node in nodes
        if node.name.startswith(f"/{_SCOPE}/embeddings/")
        for name in node.input
        if name in stored and not name.startswith(f"{_SCOPE}.")
    }
    if set(constants) != {"Concat", "Reshape"}:
        raise PartsError(
            f"{path}: position tables expected at one Concat and one Reshape of the embedding; "
            f"found constants at {sorted(constants)}"
        )
    return np.concatenate([constants["Concat"], constants["Reshape"]], axis=1)


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _require_whole(weights: Weights, path: Path) -> None:
    """Add the mask token and compare names with those of a model of that many layers."""
    layers = {
        int(found[1]) for name in weights if (found := re.match(r"encoder\.layer\.(\d+)", name))
    }
    if "embeddings.cls_token" in weights:
        width = weights["embeddings.cls_token"].shape[-1]
        weights["embeddings.mask_token"] = np.zeros((1, width), np.float32)
    wanted = {f"encoder.layer.{i}.{name}" for i in range(len(layers)) for name in _OF_A_LAYER}
    wanted |= set(_OUTSIDE_LAYERS)
    missing, unknown = sorted(wanted - set(weights)), sorted(set(weights) - wanted)
    if not layers or missing or unknown:
        raise PartsError(
            f"{path}: no whole DINOv2 in {len(layers)} layers; missing {missing[:5]}, "
            f"unknown {unknown[:5]}"
        )
