"""Configuration: what is impossible is refused with the field, the value and the remedy."""

import json
from dataclasses import replace

import pytest

from unimoe.config import (
    AudioConfig,
    CoreConfig,
    OmniConfig,
    RouterConfig,
    WriterConfig,
    from_dict,
    to_dict,
)
from unimoe.errors import ConfigError
from unimoe.recipes.tiny import tiny_config

CORE = tiny_config().core


def test_a_whole_configuration_survives_json() -> None:
    config = replace(tiny_config(), core=replace(CORE, dense_layers=(0, 2)))
    assert from_dict(OmniConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_an_unknown_field_names_the_nearest_one() -> None:
    values = to_dict(tiny_config())
    values["core"]["moe"]["router"]["top_pp"] = values["core"]["moe"]["router"].pop("top_p")
    with pytest.raises(ConfigError, match=r"core\.moe\.router\.top_pp: .* did you mean 'top_p'"):
        from_dict(OmniConfig, values)


def test_a_missing_field_is_named() -> None:
    values = to_dict(tiny_config())
    del values["core"]["hidden_size"]
    with pytest.raises(ConfigError, match="core lacks hidden_size"):
        from_dict(OmniConfig, values)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("vocab_size", "many", r"core\.vocab_size is 'many'; need int"),
        ("vocab_size", True, r"core\.vocab_size is True; need int"),
        ("rope_sections", [2, 3], r"core\.rope_sections is \[2, 3\]; need 3 values"),
        ("rope_sections", 8, r"core\.rope_sections is 8; need several values"),
        ("dense_layers", [0, "one"], r"core\.dense_layers is 'one'; need int"),
        ("moe", 4, r"core\.moe is 4; need a group of fields"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(field: str, value: object, message: str) -> None:
    values = to_dict(tiny_config())
    values["core"][field] = value
    with pytest.raises(ConfigError, match=message):
        from_dict(OmniConfig, values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_p": None}, "give exactly one"),
        ({"top_k": 2}, "give exactly one"),
        ({"top_p": 1.5}, "need 0 < top_p <= 1"),
        ({"top_p": None, "top_k": 6}, r"need 1 to 5 \(routed \+ null\)"),
        ({"num_routed": 0}, "need at least 1"),
        ({"drop_policy": "probs"}, "rule='released' only"),
    ],
)
def test_an_impossible_router_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RouterConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "no multiple of num_kv_heads 3"),
        ({"rope_sections": (1, 1, 1)}, "must add up to half of head_dim 16"),
        ({"dense_layers": (3,)}, "names layers of 0 to 2"),
        ({"dense_layers": (0,), "moe": None}, "leave it empty for a dense model"),
    ],
)
def test_an_impossible_core_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CORE, **changes)


def test_an_integer_is_a_fine_number_where_a_real_one_is_wanted() -> None:
    values = to_dict(CORE) | {"rope_theta": 10_000}
    assert from_dict(CoreConfig, values).rope_theta == 10_000.0


def test_windows_of_joined_patches_must_tile_the_side() -> None:
    vision = tiny_config().vision
    assert vision is not None
    with pytest.raises(ConfigError, match="divides the 4 patches"):
        replace(vision, pool_side=3, aligner_layers=1)


WRITER = WriterConfig(
    vocab_size=40,
    start=38,
    no_timestamps=39,
    end=37,
    alignment_heads=((0, 1), (1, 0)),
    max_pieces=8,
    max_tokens_per_piece=2,
    num_silent_states=4,
)


def test_a_writer_survives_json_and_adds_a_state_for_every_query() -> None:
    audio = tiny_config().audio
    assert audio is not None
    writing = replace(audio, writer=WRITER)
    assert from_dict(AudioConfig, to_dict(writing)) == writing
    assert audio.states_per_clip == audio.max_source_positions
    assert writing.states_per_clip == audio.max_source_positions + audio.queries_per_clip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end": 40}, "need tokens below vocab_size 40"),
        ({"max_pieces": 0}, "max_pieces is 0"),
        ({"alignment_heads": ()}, "alignment_heads is empty"),
        ({"alignment_heads": ((0, 2),)}, "layer 0, head 2; there are 2 layers of 2 heads"),
    ],
)
def test_an_impossible_writer_is_refused(changes: dict[str, object], message: str) -> None:
    audio = tiny_config().audio
    assert audio is not None
    with pytest.raises(ConfigError, match=message):
        replace(audio, writer=replace(WRITER, **changes))
