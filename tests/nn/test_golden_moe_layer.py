"""The released MoE block, number for number: outputs, routing, losses and gradients."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from unimoe.config import MoEConfig, RouterConfig
from unimoe.errors import RequestError
from unimoe.nn.moe import DynamicMoE
from unimoe.nn.router import RouterDraws, balance_loss

FOLDER = Path(__file__).parents[1] / "golden" / "moe_layer"
NO_OUTPUT = {"drop_position_raises"}
CASES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem not in NO_OUTPUT)


class Case:
    """One recorded forward: the layer with its weights, the inputs, what came out."""

    def __init__(self, name: str) -> None:
        meta = json.loads((FOLDER / f"{name}.json").read_text())
        self.tensors = load_file(FOLDER / f"{name}.safetensors")
        self.layer = _layer(meta["config"], self.tensors)
        self.layer.train(meta.get("mode") == "train")
        self.hidden = self.tensors["X"].clone().requires_grad_(True)

    def run(self):
        mask = self.tensors.get("padding_mask")
        return self.layer(self.hidden, token_mask=mask, draws=self._draws())

    def aux_loss(self, routing) -> Tensor:
        weights = self.tensors.get("aux_balance_weight")
        flat = None if weights is None else weights.flatten()
        return balance_loss(routing, self.layer.config.router, flat)

    def _draws(self) -> RouterDraws | None:
        if not any(name.startswith("draw.") for name in self.tensors):
            return None
        tokens, dynamic = self.hidden.shape[:2].numel(), self.layer.config.router.num_dynamic
        gumbel = self.tensors.get("draw.gumbel", torch.zeros(tokens, dynamic, dynamic))
        uniform = self.tensors.get("draw.uniform", torch.zeros(tokens, dynamic))
        jitter = self.tensors.get("draw.input_jitter")
        flat = None if jitter is None else jitter.flatten(0, 1).float()
        return RouterDraws(gumbel.nan_to_num(0.0), uniform.nan_to_num(0.0), flat)


def _layer(config: dict, tensors: dict[str, Tensor]) -> DynamicMoE:
    top_p = config["mlp_dynamic_top_p"] or None
    router = RouterConfig(
        num_routed=config["mlp_dynamic_expert_num"],
        num_null=config["mlp_dynamic_null_expert_num"],
        num_shared=config["mlp_fixed_expert_num"],
        top_p=top_p,
        top_k=None if top_p else config["mlp_dynamic_top_k"],
        rule="released",
        gate_gradient="deterministic" if config["ignore_differentiable_router"] else "sampled",
        near_tie=config["router_jitter_noise"],
        input_jitter=config["input_jitter_noise"],
        fp32_in_training=config["fp32_gate"],
        drop_policy=config["drop_policy"] if config["token_drop"] else None,
        capacity_factor=config["capacity_factor"],
        min_capacity=config["min_capacity"],
    )
    widths = config["dynamic_intermediate_size"], config["shared_intermediate_size"]
    layer = DynamicMoE(
        config["hidden_size"],
        MoEConfig(router=router, routed_width=widths[0], shared_width=widths[1]),
    ).to(tensors["param.gate.weight"].dtype)
    state = {"router.weight": tensors["param.gate.weight"]}
    experts = "param.dynamic_real_moe.deepspeed_moe.experts.deepspeed_experts"
    for kind, prefix, count in (
        ("routed", experts, router.num_routed),
        ("shared", "param.fixed_real_moe", router.num_shared),
    ):
        if count == 0:
            state |= {key: value for key, value in layer.state_dict().items() if kind in key}
            continue
        names = [f"{prefix}.{i}" for i in range(count)]
        state[f"{kind}_gate_up"] = torch.stack(
            [
                torch.cat([tensors[f"{n}.gate_proj.weight"], tensors[f"{n}.up_proj.weight"]])
                for n in names
            ]
        )
        state[f"{kind}_down"] = torch.stack([tensors[f"{n}.down_proj.weight"] for n in names])
    layer.load_state_dict(state)
    return layer


def _bf16_ulps(actual: Tensor, expected: Tensor) -> float:
    """Largest distance in units of the last place of the expected bf16 value."""
    exponent = torch.frexp(expected.float()).exponent
    ulp = torch.ldexp(torch.ones_like(expected, dtype=torch.float32), exponent - 8)
    return ((actual.float() - expected.float()).abs() / ulp).max().item()


@pytest.mark.parametrize("name", CASES)
def test_forward_equals_the_recorded_layer(name: str) -> None:
    case = Case(name)
    output, routing = case.run()
    expected = {
        key[9:]: value for key, value in case.tensors.items() if key.startswith("expected.")
    }
    mask = case.tensors.get("padding_mask")
    rows = slice(None) if name != "drop_position_nan_padding" else mask.flatten()

    assert torch.equal(routing.num_selected, expected["k_per_token"].long())
    assert torch.equal(routing.mask[rows].long(), expected["expert_mask"][rows].long())
    is_fp32 = case.hidden.dtype == torch.float32
    logit_atol = 5e-6 if routing.logits.dtype == torch.float32 else 0.0
    torch.testing.assert_close(
        routing.logits.float(), expected["router_logits"].float(), atol=logit_atol, rtol=0
    )
    torch.testing.assert_close(
        routing.weights[rows].to(case.hidden.dtype).float(),
        expected["global_weight"][rows].to(case.hidden.dtype).float(),
        atol=1e-6 if is_fp32 else 0.0,
        rtol=0,
    )
    torch.testing.assert_close(
        case.aux_loss(routing).float(), expected["aux_loss"].float(), atol=1e-5, rtol=0
    )
    actual, wanted = output.flatten(0, 1)[rows], expected["output"].flatten(0, 1)[rows]
    if is_fp32:
        torch.testing.assert_close(actual, wanted, atol=2e-5, rtol=0)
    else:
        assert _bf16_ulps(actual, wanted) <= 2


def _gradients(case: Case) -> dict[str, Tensor]:
    """Backward of sum(output * G) + aux loss, under the recorded names."""
    output, routing = case.run()
    loss = (output * case.tensors["G"].to(output.dtype)).sum() + case.aux_loss(routing)
    loss.backward()
    layer, last = case.layer, case.layer.config.router.num_shared - 1
    experts = "dynamic_real_moe.deepspeed_moe.experts.deepspeed_experts.0"
    named = {"X": case.hidden.grad, "gate.weight": layer.router.weight.grad}
    for prefix, gate_up, down in (
        (experts, layer.routed_gate_up.grad[0], layer.routed_down.grad[0]),
        (f"fixed_real_moe.{last}", layer.shared_gate_up.grad[last], layer.shared_down.grad[last]),
    ):
        gate, up = gate_up.chunk(2)
        named |= {
            f"{prefix}.gate_proj.weight": gate,
            f"{prefix}.up_proj.weight": up,
            f"{prefix}.down_proj.weight": down,
        }
    return named


def _recorded_gradients(case: Case) -> dict[str, Tensor]:
    return {key[5:]: value for key, value in case.tensors.items() if key.startswith("grad.")}


FP32_GRADIENTS = [name for name in CASES if name.startswith("grad_") and "bf16" not in name]


@pytest.mark.parametrize("name", FP32_GRADIENTS)
def test_gradients_equal_the_recorded_ones(name: str) -> None:
    case = Case(name)
    actual, recorded = _gradients(case), _recorded_gradients(case)
    assert {"X", "gate.weight"} <= recorded.keys() <= actual.keys()
    for key, wanted in recorded.items():
        torch.testing.assert_close(actual[key], wanted.float(), atol=5e-5, rtol=0)


def test_bf16_gradients_are_as_near_to_float32_as_the_recorded_ones() -> None:
    # The recorded bf16 gradient of X is 0.055 from its own float32 value: rounding noise, which
    # another order of the same sums cannot repeat.  Ours must not be noisier.
    case, exact_case = Case("grad_sparsemixer_bf16"), Case("grad_sparsemixer_bf16")
    exact_case.layer.float()
    exact_case.hidden = exact_case.hidden.detach().float().requires_grad_(True)
    actual, exact, recorded = _gradients(case), _gradients(exact_case), _recorded_gradients(case)
    for key, wanted in recorded.items():
        noise = (wanted.float() - exact[key]).abs()
        error = (actual[key].float() - exact[key]).abs()
        assert error.max() <= noise.max(), key
        assert error.mean() <= noise.mean(), key


def test_position_dropping_that_leaves_a_token_nothing_is_an_error() -> None:
    with pytest.raises(RequestError, match="without any expert; raise capacity_factor"):
        Case("drop_position_raises").run()
