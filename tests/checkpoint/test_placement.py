"""Models on several devices: the plan is arithmetic, the run is the same."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Module

from tests.checkpoint.tiny_checkpoints import RELEASED
from unimoe.checkpoint.placement import device_of, plan_devices, spread
from unimoe.checkpoint.weights import load_model
from unimoe.config import CoreConfig, OmniConfig, SpecialTokens
from unimoe.errors import ConfigError
from unimoe.model.allocate import parameter_shapes
from unimoe.model.core import LayerInput
from unimoe.nn.rope import rotation

CORE = CoreConfig(
    vocab_size=10,
    hidden_size=8,
    num_layers=4,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    ffn_width=16,
    rope_sections=(1, 1, 0),
)
CONFIG = OmniConfig(core=CORE, special_tokens=SpecialTokens(pad=0, end_of_turn=1))


def bytes_by_device(plan: dict[str, str], config: OmniConfig, itemsize: int) -> dict[str, int]:
    totals: dict[str, int] = {}
    for name, shape in parameter_shapes(config).items():
        best = max((p for p in plan if name.startswith(p)), key=len)
        totals[plan[best]] = totals.get(plan[best], 0) + torch.Size(shape).numel() * itemsize
    return totals


def test_one_large_device_takes_everything() -> None:
    plan = plan_devices(CONFIG, {"cuda:0": 10**9}, 2)
    assert set(plan.values()) == {"cuda:0"}


def test_two_equal_devices_share_the_layers_in_order() -> None:
    plan = plan_devices(CONFIG, {"cuda:0": 10**5, "cuda:1": 10**5}, 2)
    order = [plan[f"core.layers.{i}"] for i in range(4)]
    assert plan[""] == "cuda:0"
    assert order == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]


def test_the_device_with_more_memory_takes_more_layers() -> None:
    plan = plan_devices(
        replace(CONFIG, core=replace(CORE, num_layers=12)), {"a": 50_000, "b": 150_000}, 2
    )
    assert list(plan.values()).count("b") > 2 * list(plan.values()).count("a") - 4


def test_a_model_that_does_not_fit_names_both_sizes() -> None:
    with pytest.raises(ConfigError, match=r"weights take .* GB and the devices cuda:0 have .* GB"):
        plan_devices(CONFIG, {"cuda:0": 1000}, 2)


@settings(max_examples=30)
@given(
    memory=st.lists(st.integers(2_000, 60_000), min_size=1, max_size=4),
    layers=st.integers(1, 9),
    itemsize=st.sampled_from([2, 4]),
)
def test_no_plan_puts_more_on_a_device_than_it_holds(
    memory: list[int], layers: int, itemsize: int
) -> None:
    config = replace(CONFIG, core=replace(CORE, num_layers=layers))
    room = {f"cuda:{index}": size for index, size in enumerate(memory)}
    try:
        plan = plan_devices(config, room, itemsize)
    except ConfigError:
        assert sum(bytes_by_device({"": "all"}, config, itemsize).values()) > min(memory)
        return
    totals = bytes_by_device(plan, config, itemsize)
    assert all(totals[device] <= room[device] for device in totals)
    order = [int(plan[f"core.layers.{i}"][5:]) for i in range(layers)]
    assert order == sorted(order)


def test_the_longest_name_decides() -> None:
    devices = {"": "cpu", "core": "cuda:1", "core.layers.1": "cuda:2"}
    assert device_of("vision.aligner.0.weight", devices) == torch.device("cpu")
    assert device_of("core.layers.1.ffn.router.weight", devices) == torch.device("cuda:2")
    assert device_of("core.layers.10.ffn.router.weight", devices) == torch.device("cuda:1")


def test_a_parameter_without_place_or_with_an_unknown_one() -> None:
    with pytest.raises(ConfigError, match=r"no place for core.norm.weight"):
        device_of("core.norm.weight", {"vision": "cpu"})
    with pytest.raises(ConfigError, match=r"device_map: .*abacus"):
        device_of("core.norm.weight", {"": "abacus"})


def test_a_divided_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"divides core.layers.1 over cpu, meta"):
        load_model(RELEASED, device_map={"": "cpu", "core.layers.1.ffn": "meta"})


@pytest.mark.parametrize("name", ["core.norm", "core.lm_head"])
def test_norm_and_head_stay_with_the_embeddings(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must lie with core.embed_tokens, on cpu"):
        load_model(RELEASED, device_map={"": "cpu", name: "meta"})


class _Seen(Exception):
    """Ends a forward at the module that is watched."""


def test_a_layer_pulls_its_inputs_to_its_own_device() -> None:
    model = load_model(RELEASED, device_map={"": "cpu", "core.layers.1": "meta"})

    def watch(_: Module, inputs: tuple) -> None:
        hidden, shared = inputs
        raise _Seen(hidden.device.type, shared.turn.cos.device.type)

    model.core.layers[1].register_forward_pre_hook(watch)
    with pytest.raises(_Seen) as seen:
        model(torch.ones(1, 4, dtype=torch.int64))
    assert seen.value.args == ("meta", "meta")


def test_a_model_with_hooks_computes_what_it_did() -> None:
    plain, hooked = load_model(RELEASED), load_model(RELEASED)
    spread(hooked)
    input_ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = plain(input_ids, labels=input_ids), hooked(input_ids, labels=input_ids)
    assert torch.equal(wanted.logits, found.logits)
    assert found.loss is not None
    assert torch.equal(wanted.loss.total, found.loss.total)
    assert all(
        torch.equal(before.weights, after.weights)
        for before, after in zip(wanted.routing, found.routing, strict=True)
    )


def test_what_leaves_a_layer_for_the_loss_comes_home() -> None:
    model = load_model(RELEASED, device_map={"": "meta", "core.layers.1": "cpu"})
    layer = model.core.layers[1]
    outputs = []
    layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    turn = rotation(torch.zeros(1, 4, 8), torch.float32)
    layer(torch.ones(1, 4, 64), LayerInput(turn, None, None, None, None))
    hidden, routing = outputs[0]
    assert hidden.device.type == "cpu"
    assert {part.device.type for part in routing} == {"meta"}


def test_only_copies_to_an_accelerator_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(RELEASED, device_map={"": "meta", "core.layers.1": "cpu"})
    original, copies = torch.Tensor.to, []

    def watched(tensor: torch.Tensor, *target, **options) -> torch.Tensor:
        if "non_blocking" in options:
            copies.append((target[0].type, options["non_blocking"]))
        return original(tensor, *target, **options)

    monkeypatch.setattr(torch.Tensor, "to", watched)
    turn = rotation(torch.zeros(1, 4, 8), torch.float32)
    model.core.layers[1](torch.ones(1, 4, 64), LayerInput(turn, None, None, None, None))
    assert set(copies) == {("cpu", False), ("meta", True)}


@pytest.mark.gpu
@pytest.mark.parametrize(("home", "guest"), [("cpu", "cuda:0"), ("cuda:0", "cpu")])
def test_a_model_over_cpu_and_gpu_gives_the_logits_of_the_cpu(home: str, guest: str) -> None:
    whole = load_model(RELEASED)
    parted = load_model(RELEASED, device_map={"": home, "core.layers.1": guest})
    devices = [str(next(layer.parameters()).device) for layer in parted.core.layers]
    assert devices == [home, guest, home]
    input_ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = whole(input_ids).logits
        found = parted(input_ids.to(home)).logits
    assert str(found.device) == home
    # float32 on both, sums in another order
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-4)


def test_an_encoder_sends_its_features_home() -> None:
    model = load_model(RELEASED, device_map={"": "meta", "vision": "cpu"})
    assert model.vision is not None
    assert model.vision(torch.zeros(1, 3, 55, 55)).device.type == "meta"
