"""DINOv2 out of an ONNX graph: every parameter of transformers' model, none by luck."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers.models.dinov2 import Dinov2Config, Dinov2Model

from unimoe.errors import PartsError
from unimoe.parts.onnx_weights import dinov2_weights

NAMES = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


@pytest.fixture(scope="module")
def model() -> Dinov2Model:
    torch.manual_seed(0)
    settings = Dinov2Config(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    return Dinov2Model(settings)


def write_graph(path: Path, state: dict[str, torch.Tensor], *, leave_out: str = "none") -> Path:
    """As PyTorch exports the model: matrices nameless and turned, positions as constants."""
    nodes, stored = [], []

    def constant(name: str, values: np.ndarray) -> str:
        stored.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    for key, tensor in state.items():
        owner, _, kind = key.rpartition(".")
        values = tensor.numpy()
        ours = next((ours for ours in NAMES if owner.endswith(ours)), None)
        if key in ("embeddings.mask_token", leave_out):
            continue
        if key == "embeddings.position_embeddings":
            scope = "/backbone/embeddings"
            inputs = [constant("onnx::Concat_1", values[:, :1]), "patches"]
            nodes.append(helper.make_node("Concat", inputs, ["c"], f"{scope}/Concat_6", axis=1))
            inputs = [constant("onnx::Reshape_2", values[:, 1:]), "size"]
            nodes.append(helper.make_node("Reshape", inputs, ["r"], f"{scope}/Reshape_1"))
        elif ours and kind == "weight":
            scope = "/backbone/" + owner.replace(ours, NAMES[ours]).replace(".", "/").replace(
                "layer/", "layer."
            )
            inputs = ["x", constant(f"onnx::MatMul_{len(stored)}", values.T)]
            nodes.append(helper.make_node("MatMul", inputs, [scope], f"{scope}/MatMul"))
        else:
            theirs = owner.replace(ours, NAMES[ours]) if ours else owner
            constant(f"backbone.{theirs}.{kind}", values)
    constant("head.weight", np.ones((3, 3), np.float32))
    nodes.append(helper.make_node("MatMul", ["x", "head.weight"], ["y"], "/head/MatMul"))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "exported", [], [output], stored)
    onnx.save(helper.make_model(graph), path)
    return path


def test_every_parameter_comes_out_under_its_name(tmp_path: Path, model: Dinov2Model) -> None:
    state = model.state_dict() | {"embeddings.mask_token": torch.zeros(1, 8)}
    weights = dinov2_weights(write_graph(tmp_path / "m.onnx", state))
    assert set(weights) == set(state)
    assert all(np.array_equal(weights[name], state[name].numpy()) for name in state)


def test_positions_stay_as_they_are_stored(tmp_path: Path, model: Dinov2Model) -> None:
    weights = dinov2_weights(write_graph(tmp_path / "m.onnx", model.state_dict()))
    assert weights["embeddings.position_embeddings"].shape == (1, 1 + 2 * 2, 8)


@pytest.mark.parametrize(
    "name",
    ["encoder.layer.1.attention.q_proj.weight", "layernorm.bias", "embeddings.cls_token"],
)
def test_a_missing_parameter_is_named(tmp_path: Path, model: Dinov2Model, name: str) -> None:
    path = write_graph(tmp_path / "m.onnx", model.state_dict(), leave_out=name)
    with pytest.raises(PartsError, match=f"missing .*{name}"):
        dinov2_weights(path)


def test_a_graph_without_positions_is_refused(tmp_path: Path, model: Dinov2Model) -> None:
    state = model.state_dict()
    path = write_graph(tmp_path / "m.onnx", state, leave_out="embeddings.position_embeddings")
    with pytest.raises(PartsError, match="position tables expected"):
        dinov2_weights(path)


def test_weights_in_another_file_are_not_followed(tmp_path: Path, model: Dinov2Model) -> None:
    path = write_graph(tmp_path / "m.onnx", model.state_dict())
    graph = onnx.load(path)
    onnx.save(graph, path, save_as_external_data=True, location="beside", size_threshold=0)
    with pytest.raises(PartsError, match="stored outside the file"):
        dinov2_weights(path)


@pytest.mark.parametrize("data", [b"nonsense", b"\x08" * 100])
def test_no_onnx_file_is_a_parts_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(PartsError, match=r"m\.onnx"):
        dinov2_weights(tmp_path / "m.onnx")
    with pytest.raises(PartsError, match="cannot be read"):
        dinov2_weights(tmp_path / "none.onnx")
