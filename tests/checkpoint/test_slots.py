"""The table of slots: every element of ours has exactly one place in a checkpoint."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe.checkpoint.slots import Slot, compare, own_slots, transformers_slots
from unimoe.config import CoreConfig, MoEConfig, OmniConfig, RouterConfig, SpecialTokens
from unimoe.model.allocate import parameter_shapes

DENSE = CoreConfig(
    vocab_size=11,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    ffn_width=6,
    rope_sections=(1, 1, 0),
)
MOE = replace(DENSE, moe=MoEConfig(routed_width=3, shared_width=2))


def slots_of(core: CoreConfig) -> dict[str, Slot]:
    config = OmniConfig(core=core, special_tokens=SpecialTokens(pad=0, end_of_turn=1))
    return transformers_slots(parameter_shapes(config), core)


def test_key_rows_follow_the_query_rows() -> None:
    slot = slots_of(DENSE)["model.layers.1.self_attn.k_proj.weight"]
    assert slot == Slot("core.layers.1.attention.qkv_proj.weight", (slice(8, 12),), (4, 8))


def test_value_bias_is_the_end_of_the_fused_bias() -> None:
    slot = slots_of(DENSE)["model.layers.0.self_attn.v_proj.bias"]
    assert slot == Slot("core.layers.0.attention.qkv_proj.bias", (slice(12, 16),), (4,))


def test_up_rows_of_an_expert_follow_its_gate_rows() -> None:
    key = "model.layers.0.mlp.dynamic_real_moe.deepspeed_moe.experts.deepspeed_experts.2.up_proj"
    slot = slots_of(MOE)[f"{key}.weight"]
    assert slot == Slot("core.layers.0.ffn.routed_gate_up", (2, slice(3, 6)), (3, 8))


def test_a_shared_expert_is_one_matrix_of_the_stack() -> None:
    slot = slots_of(MOE)["model.layers.0.mlp.fixed_real_moe.1.down_proj.weight"]
    assert slot == Slot("core.layers.0.ffn.shared_down", (1,), (8, 2))


def test_a_tied_core_has_no_slot_for_a_head() -> None:
    assert "lm_head.weight" in slots_of(DENSE)
    assert "lm_head.weight" not in slots_of(replace(DENSE, ties_embeddings=True))


@settings(max_examples=25)
@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    routed=st.integers(1, 4),
    null=st.integers(0, 2),
    shared=st.integers(0, 3),
    is_dense=st.booleans(),
    has_bias=st.booleans(),
)
def test_every_element_belongs_to_exactly_one_stored_tensor(
    kv_heads: int, group: int, routed: int, null: int, shared: int, is_dense: bool, has_bias: bool
) -> None:
    router = RouterConfig(num_routed=routed, num_null=null, num_shared=shared)
    core = replace(
        DENSE,
        num_heads=kv_heads * group,
        num_kv_heads=kv_heads,
        has_qkv_bias=has_bias,
        moe=None if is_dense else MoEConfig(router=router, routed_width=5, shared_width=2),
    )
    config = OmniConfig(core=core, special_tokens=SpecialTokens(pad=0, end_of_turn=1))
    shapes = parameter_shapes(config)
    times_covered = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for slot in transformers_slots(shapes, core).values():
        place = times_covered[slot.parameter][slot.where]
        assert tuple(place.shape) == slot.shape
        place += 1
    assert all(bool((count == 1).all()) for count in times_covered.values())


def test_own_slots_are_the_parameters_themselves() -> None:
    assert own_slots({"core.norm.weight": (8,)}) == {
        "core.norm.weight": Slot("core.norm.weight", (), (8,))
    }


def compared(stored: dict[str, tuple[int, ...]], **changed):
    slots = own_slots({"core.a": (2, 3), "core.b": (4,), "vision.c": (1,)})
    return compare(slots, stored, **{"foreign": {}, "ties_embeddings": False} | changed)


def test_report_of_a_perfect_fit() -> None:
    report = compared({"core.a": (2, 3), "core.b": (4,), "vision.c": (1,)})
    assert report.is_complete
    assert report.num_loaded == 3
    assert report.table() == "3 tensors fit"


def test_report_names_what_is_missing_unexpected_and_misshaped_by_part() -> None:
    report = compared({"core.a": (3, 2), "core.b": (4,), "core.extra": (1,), "talker.x": (1,)})
    assert not report.is_complete
    assert report.table().splitlines() == [
        "1 tensors fit",
        "1 missing (vision 1):",
        "  vision.c",
        "2 unexpected (core 1, talker 1):",
        "  core.extra",
        "  talker.x",
        "1 misshaped (core 1):",
        "  core.a: need [2, 3], found [3, 2]",
    ]


def test_report_shows_the_first_few_of_many() -> None:
    report = compared({f"talker.{i}": (1,) for i in range(50)})
    assert "  ... and 42 more" in report.table(first=8).splitlines()
    assert "50 unexpected (talker 50):" in report.table(first=8)


def test_a_quantised_tensor_does_not_fit() -> None:
    report = compared(
        {"core.a": (2, 3), "core.b": (4,), "vision.c": (1,)}, foreign={"core.b": "I8"}
    )
    assert not report.is_complete
    assert "core.b: need a floating-point type, found I8" in report.table()


def test_known_heads_are_left_aside_by_group_and_do_not_spoil_the_fit() -> None:
    report = compared(
        {
            "core.a": (2, 3),
            "core.b": (4,),
            "vision.c": (1,),
            "speech_generator.norm.weight": (9,),
            "task_hidden_fcs.0.query_embs": (1, 3),
            "image_generator.vae.x": (1,),
        }
    )
    assert report.is_complete
    assert {group: len(keys) for group, keys in report.left_aside.items()} == {
        "speech head": 1,
        "image head": 2,
    }
    assert "not loaded yet: image head, 2 tensors" in report.table()


def test_buffers_of_older_files_are_redundant_not_unexpected() -> None:
    fit = {"core.a": (2, 3), "core.b": (4,), "vision.c": (1,)}
    report = compared({**fit, "model.layers.0.self_attn.rotary_emb.inv_freq": (4,)})
    assert report.is_complete
    assert report.redundant == ("model.layers.0.self_attn.rotary_emb.inv_freq",)


@pytest.mark.parametrize("ties_embeddings", [False, True])
def test_a_head_is_redundant_only_beside_tied_embeddings(ties_embeddings: bool) -> None:
    slots = own_slots({"model.embed_tokens.weight": (5, 2)})
    stored = {"model.embed_tokens.weight": (5, 2), "lm_head.weight": (5, 2)}
    report = compare(slots, stored, foreign={}, ties_embeddings=ties_embeddings)
    assert report.is_complete == ties_embeddings
    ours = compare(
        own_slots({"core.embed_tokens.weight": (5, 2)}),
        {"core.embed_tokens.weight": (5, 2), "lm_head.weight": (5, 2)},
        foreign={},
        ties_embeddings=ties_embeddings,
    )
    assert ours.unexpected == ("lm_head.weight",)
