"""Loading, saving and converting: strict, bit-exact, one tensor at a time."""

import json
import logging
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.checkpoint.tiny_checkpoints import (
    HEADS,
    RELEASED,
    change_config,
    change_tensors,
    dense_config,
    dense_directory,
    dense_model,
    released_copy,
    released_with_heads,
)
from unimoe.checkpoint.directory import open_checkpoint, read_config
from unimoe.checkpoint.storage import SafetensorsFiles
from unimoe.checkpoint.weights import convert, load_model, save_model, tensor_report
from unimoe.errors import CheckpointError, ConfigError
from unimoe.model.omni import OmniModel

EXPERT = "model.layers.1.mlp.dynamic_real_moe.deepspeed_moe.experts.deepspeed_experts.2"


def file_bytes(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


# Exactness


def test_released_to_ours_and_back_is_the_same_bytes(tmp_path: Path) -> None:
    source = released_copy(tmp_path / "released")
    convert(source, tmp_path / "ours", dialect="unimoe")
    convert(tmp_path / "ours", tmp_path / "back", dialect="released")
    assert file_bytes(tmp_path / "back") == file_bytes(source)


def test_converting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    convert(RELEASED, tmp_path / "first", dialect="unimoe", max_shard_bytes=300_000)
    convert(RELEASED, tmp_path / "second", dialect="unimoe", max_shard_bytes=300_000)
    assert len(list((tmp_path / "first").glob("model-*.safetensors"))) > 2
    assert file_bytes(tmp_path / "first") == file_bytes(tmp_path / "second")


def test_every_stored_tensor_lies_bit_by_bit_in_its_slot() -> None:
    model = load_model(RELEASED)
    parameters = dict(model.named_parameters())
    checkpoint = open_checkpoint(RELEASED)
    for key, stored in load_file(RELEASED / "model.safetensors").items():
        slot = checkpoint.slots[key]
        assert torch.equal(parameters[slot.parameter][slot.where], stored)
    assert not model.training


def test_a_loaded_model_saves_to_the_released_tensors(tmp_path: Path) -> None:
    save_model(load_model(RELEASED), tmp_path, dialect="released")
    assert file_bytes(tmp_path)["model.safetensors"] == file_bytes(RELEASED)["model.safetensors"]
    assert read_config(tmp_path) == read_config(RELEASED)


@pytest.mark.parametrize("max_shard_bytes", [30_000, 10**9])
def test_a_saved_model_loads_back_bit_by_bit(tmp_path: Path, max_shard_bytes: int) -> None:
    model = load_model(RELEASED, dtype="bfloat16")
    save_model(model, tmp_path, max_shard_bytes=max_shard_bytes)
    again = load_model(tmp_path)
    assert again.config == model.config
    pairs = zip(model.named_parameters(), again.named_parameters(), strict=True)
    for (name, before), (same_name, after) in pairs:
        assert name == same_name
        assert after.dtype == torch.bfloat16
        assert torch.equal(before, after)


def mixed_model() -> OmniModel:
    """Random, of the released shapes, with experts in the middle layer alone."""
    config = read_config(RELEASED)
    torch.manual_seed(0)
    return OmniModel(replace(config, core=replace(config.core, dense_layers=(0, 2)))).eval()


def test_a_model_dense_in_some_layers_runs_and_loads_back_bit_by_bit(tmp_path: Path) -> None:
    model = mixed_model()
    save_model(model, tmp_path, max_shard_bytes=30_000)
    again = load_model(tmp_path)
    assert again.config.core.dense_layers == (0, 2)
    with torch.no_grad():
        wanted, found = (each(torch.arange(9)[None]) for each in (model, again))
    assert len(found.routing) == 1
    assert torch.equal(found.logits, wanted.logits)


def test_dense_layers_have_no_released_form(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot express core.dense_layers = \[0, 2\]"):
        save_model(mixed_model(), tmp_path / "released", dialect="released")
    assert not (tmp_path / "released").exists()


def test_tensors_scattered_over_shards_by_size_load_by_name(tmp_path: Path) -> None:
    tensors = load_file(RELEASED / "model.safetensors")
    released_copy(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    by_size = sorted(tensors, key=lambda key: -tensors[key].nbytes)
    weight_map = {key: f"part-{rank % 5}.safetensors" for rank, key in enumerate(by_size)}
    for name in set(weight_map.values()):
        change = {key: tensors[key] for key in by_size if weight_map[key] == name}
        from safetensors.torch import save_file

        save_file(change, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    found, wanted = load_model(tmp_path), load_model(RELEASED)
    pairs = zip(found.parameters(), wanted.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_fields_we_do_not_interpret_survive_the_round_trip(tmp_path: Path) -> None:
    source = released_copy(tmp_path / "released", house_colour="green", min_l_aux_weight=0.125)
    convert(source, tmp_path / "ours", dialect="unimoe")
    assert json.loads((tmp_path / "ours/config.json").read_text())["origin"]["house_colour"]
    convert(tmp_path / "ours", tmp_path / "back", dialect="released")
    assert file_bytes(tmp_path / "back")["config.json"] == file_bytes(source)["config.json"]


def test_a_field_changed_in_ours_is_laid_over_the_released_ones(tmp_path: Path) -> None:
    convert(released_copy(tmp_path / "a", colour="green"), tmp_path / "b", dialect="unimoe")
    values = json.loads((tmp_path / "b/config.json").read_text())
    values["core"]["moe"]["router"]["top_p"] = 0.5
    (tmp_path / "b/config.json").write_text(json.dumps(values))
    convert(tmp_path / "b", tmp_path / "c", dialect="released")
    back = json.loads((tmp_path / "c/config.json").read_text())
    assert back["mlp_dynamic_top_p"] == 0.5
    assert back["colour"] == "green"
    assert back["audio_config"]["median_filter_width"] == 7


def test_tokenizer_and_other_small_files_come_along(tmp_path: Path) -> None:
    source = released_copy(tmp_path / "a")
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "merges.txt"):
        (source / name).write_text(name)
    (source / "training_args.bin").write_text("no")
    convert(source, tmp_path / "b", dialect="unimoe")
    names = set(file_bytes(tmp_path / "b"))
    assert {"tokenizer.json", "chat_template.jinja", "LICENSE", "merges.txt"} < names
    assert "training_args.bin" not in names


# Heads that are known and not loaded yet


def test_a_checkpoint_with_heads_loads_its_understanding_part_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = released_with_heads(tmp_path / "omni")
    with caplog.at_level(logging.WARNING):
        model = load_model(source)
    assert "speech head not loaded yet (1 tensors)" in caplog.text
    assert "image head not loaded yet (2 tensors)" in caplog.text
    assert torch.equal(model.core.norm.weight, load_model(RELEASED).core.norm.weight)


def test_the_report_lists_every_tensor_left_aside(tmp_path: Path) -> None:
    report = tensor_report(released_with_heads(tmp_path / "omni"))
    assert report.is_complete
    assert {key for keys in report.left_aside.values() for key in keys} == set(HEADS)


def test_heads_are_carried_through_both_conversions(tmp_path: Path) -> None:
    source = released_with_heads(tmp_path / "omni")
    convert(source, tmp_path / "ours", dialect="unimoe")
    convert(tmp_path / "ours", tmp_path / "back", dialect="released")
    assert file_bytes(tmp_path / "back") == file_bytes(source)


# Strictness


def test_missing_unexpected_and_misshaped_tensors_stop_a_load_with_a_table(
    tmp_path: Path,
) -> None:
    source = released_copy(tmp_path)
    added = {"talker.weight": torch.ones(2), f"{EXPERT}.up_proj.weight": torch.ones(64, 72)}
    change_tensors(source, add=added, drop=("model.norm.weight", "vision_aligner.0.bias"))
    with pytest.raises(CheckpointError) as caught:
        load_model(source)
    message = str(caught.value)
    assert "does not hold the model its configuration describes" in message
    assert "2 missing (core 1, vision 1):\n  model.norm.weight" in message
    assert "1 unexpected (talker 1):\n  talker.weight" in message
    assert f"{EXPERT}.up_proj.weight: need [72, 64], found [64, 72]" in message


def test_a_quantised_tensor_stops_a_load(tmp_path: Path) -> None:
    source = released_copy(tmp_path)
    change_tensors(source, add={"model.norm.weight": torch.ones(64, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=r"model.norm.weight: need a floating.*found I8"):
        load_model(source)


def test_a_configuration_of_other_sizes_stops_a_load_before_memory_is_taken(
    tmp_path: Path,
) -> None:
    source = released_copy(tmp_path, dynamic_intermediate_size=1_000_000)  # 768 MB a matrix
    with pytest.raises(CheckpointError, match=r"need \[1000000, 64\], found \[72, 64\]"):
        load_model(source)


def test_a_directory_without_configuration(tmp_path: Path) -> None:
    (released_copy(tmp_path) / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read"):
        load_model(tmp_path)


def test_a_save_never_lands_on_another_checkpoint(tmp_path: Path) -> None:
    released_copy(tmp_path)
    with pytest.raises(CheckpointError, match=r"already holds model.safetensors"):
        save_model(load_model(RELEASED), tmp_path)


def test_a_save_cut_short_leaves_nothing_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SafetensorsFiles.read

    def failing(self: SafetensorsFiles, key: str) -> Tensor:
        if key.startswith("vision"):
            raise OSError("disk full")
        return original(self, key)

    monkeypatch.setattr(SafetensorsFiles, "read", failing)
    with pytest.raises(OSError, match=r"disk full"):
        convert(RELEASED, tmp_path / "half", dialect="unimoe")
    monkeypatch.undo()
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "half")


def test_a_model_the_released_dialect_cannot_express_names_the_field(tmp_path: Path) -> None:
    convert(RELEASED, tmp_path / "ours", dialect="unimoe")
    values = json.loads((tmp_path / "ours/config.json").read_text())
    values["core"]["moe"]["router"]["rule"] = "paper"
    (tmp_path / "ours/config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"core.moe.router.rule = 'paper'"):
        convert(tmp_path / "ours", tmp_path / "released", dialect="released")
    assert not (tmp_path / "released").exists()


# Types, devices, memory


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "float16", "float32"])
def test_weights_are_cast_while_they_are_read(dtype: torch.dtype | str) -> None:
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    model = load_model(RELEASED, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    stored = load_file(RELEASED / "model.safetensors")["model.norm.weight"]
    assert torch.equal(model.core.norm.weight, stored.to(wanted))


def mixed_copy(directory: Path, **changed: str | None) -> Path:
    """Matrices in bfloat16; norms and biases in float32, as training often leaves them."""
    source = released_copy(directory, **changed)
    stored = load_file(source / "model.safetensors")
    names = [key for key, tensor in stored.items() if tensor.dim() > 1]
    return change_tensors(source, add={key: stored[key].bfloat16() for key in names})


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"torch_dtype": "bfloat16"}, torch.bfloat16),
        ({"torch_dtype": None, "dtype": "torch.float16"}, torch.float16),
        ({"torch_dtype": "float32"}, torch.float32),
        ({"torch_dtype": None}, torch.bfloat16),
    ],
)
def test_auto_is_one_type_declared_or_else_the_commonest(
    tmp_path: Path, changed: dict[str, str | None], wanted: torch.dtype
) -> None:
    model = load_model(mixed_copy(tmp_path, **changed))
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    with torch.no_grad():
        logits = model(torch.arange(9)[None]).logits
    assert logits.dtype == wanted
    assert bool(logits.isfinite().all())


def test_auto_is_the_same_after_a_conversion(tmp_path: Path) -> None:
    source = mixed_copy(tmp_path / "released", torch_dtype="float16")
    convert(source, tmp_path / "ours", dialect="unimoe")
    assert load_model(tmp_path / "ours").dtype == load_model(source).dtype == torch.float16


def test_a_conversion_keeps_every_tensor_in_its_own_type(tmp_path: Path) -> None:
    source = mixed_copy(tmp_path / "released")
    convert(source, tmp_path / "ours", dialect="unimoe")
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert stored["core.layers.0.attention.qkv_proj.weight"].dtype == torch.bfloat16
    assert stored["core.layers.0.input_norm.weight"].dtype == torch.float32


def test_parts_of_different_types_convert_to_the_wider_one(tmp_path: Path) -> None:
    source = released_copy(tmp_path / "released")
    key = "model.layers.0.self_attn.k_proj.weight"
    half = load_file(RELEASED / "model.safetensors")[key].bfloat16()
    change_tensors(source, add={key: half})
    convert(source, tmp_path / "ours", dialect="unimoe")
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    fused = stored["core.layers.0.attention.qkv_proj.weight"]
    assert fused.dtype == torch.float32
    assert torch.equal(fused[64:96], half.float())


def test_a_declared_type_that_cannot_be_is_refused_unless_another_is_named(tmp_path: Path) -> None:
    source = released_copy(tmp_path, torch_dtype="int8")
    with pytest.raises(CheckpointError, match=r"config.json: declares weights of type 'int8'"):
        load_model(source)
    assert load_model(source, dtype="float32").dtype == torch.float32


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dtype is 'int4'; need 'auto'"):
        load_model(RELEASED, dtype="int4")


def test_a_device_and_a_device_map_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"device and device_map are both given"):
        load_model(RELEASED, device="cpu", device_map="auto")


def test_auto_placement_on_a_machine_without_accelerator_is_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert load_model(RELEASED, device_map="auto").device == torch.device("cpu")


def test_modules_go_to_the_devices_of_the_map() -> None:
    devices = {"": "cpu", "vision": "meta", "core.layers.1": "meta"}
    model = load_model(RELEASED, device_map=devices)
    on_meta = {name for name, parameter in model.named_parameters() if parameter.is_meta}
    assert on_meta == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("vision.", "core.layers.1."))
    }


def test_loading_holds_one_stored_tensor_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    original, alive, most = SafetensorsFiles.read, weakref.WeakSet(), [0]

    def watched(self: SafetensorsFiles, key: str) -> Tensor:
        tensor = original(self, key)
        alive.add(tensor)
        most[0] = max(most[0], len(alive))
        return tensor

    monkeypatch.setattr(SafetensorsFiles, "read", watched)
    load_model(RELEASED)
    assert most[0] == 1


def test_nothing_is_left_unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def poisoned(*args, **kwargs) -> Tensor:
        tensor = empty(*args, **kwargs)
        return tensor if tensor.is_meta or not tensor.is_floating_point() else tensor.fill_(1e30)

    monkeypatch.setattr(torch, "empty", poisoned)
    model = load_model(RELEASED)
    monkeypatch.undo()
    assert all(bool((parameter.abs() < 1e29).all()) for parameter in model.parameters())
    assert not list(model.buffers())


# Dense models


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("qwen2", {}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("llama", {}),
        ("llama", {"head_dim": 6, "num_attention_heads": 4, "num_key_value_heads": 1}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": None}),
    ],
)
def test_a_dense_model_gives_the_logits_of_transformers(
    tmp_path: Path, model_type: str, changes: dict
) -> None:
    values = dense_config(model_type, **changes)
    theirs = dense_model(values)
    ours = load_model(dense_directory(tmp_path, theirs, values))
    input_ids = torch.randint(0, 90, (2, 17), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(
            ours(input_ids).logits, theirs(input_ids).logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
def test_a_directory_that_transformers_saved_loads_as_it_is(
    tmp_path: Path, model_type: str
) -> None:
    theirs = dense_model(dense_config(model_type))
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ours = load_model(tmp_path)
    assert ours.config.core.rope_theta == 5e4
    input_ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(input_ids).logits, theirs(input_ids).logits, rtol=1e-4, atol=1e-4
        )


def test_the_rotary_base_is_read_in_both_spellings(tmp_path: Path) -> None:
    values = dense_config(
        rope_theta=None, rope_parameters={"rope_theta": 5e4, "rope_type": "default"}
    )
    dense_directory(tmp_path, dense_model(dense_config()), values)
    assert read_config(tmp_path).core.rope_theta == 5e4


def test_a_stored_copy_of_tied_embeddings_is_accepted(tmp_path: Path) -> None:
    values = dense_config(tie_word_embeddings=True)
    dense_directory(tmp_path, dense_model(values), values)
    embedding = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    change_tensors(tmp_path, add={"lm_head.weight": embedding.clone()})
    assert load_model(tmp_path).core.lm_head is None


def test_a_head_that_differs_from_tied_embeddings_is_refused(tmp_path: Path) -> None:
    values = dense_config(tie_word_embeddings=True)
    dense_directory(tmp_path, dense_model(values), values)
    change_tensors(tmp_path, add={"lm_head.weight": torch.ones(90, 32)})
    with pytest.raises(CheckpointError, match=r"lm_head.weight differs from model.embed_tokens"):
        load_model(tmp_path)


def test_a_dense_model_converts_to_ours_and_loads_alike(tmp_path: Path) -> None:
    values = dense_config("llama", tie_word_embeddings=True)
    source = dense_directory(tmp_path / "dense", dense_model(values), values)
    convert(source, tmp_path / "ours", dialect="unimoe")
    before, after = load_model(source), load_model(tmp_path / "ours")
    assert before.config == after.config
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_a_dense_model_has_no_released_form(tmp_path: Path) -> None:
    values = dense_config()
    source = dense_directory(tmp_path / "dense", dense_model(values), values)
    with pytest.raises(CheckpointError, match=r"lacks experts, vision, audio"):
        convert(source, tmp_path / "out", dialect="released")


def test_configuration_faults_name_the_file(tmp_path: Path) -> None:
    change_config(released_copy(tmp_path), model_type="mamba")
    with pytest.raises(CheckpointError, match=r"config.json: model_type is 'mamba'; readable"):
        load_model(tmp_path)
