"""Mini put together: parts, and what was trained on them."""

import dataclasses
import json

import pytest
import torch

from unimoe.checkpoint import mini
from unimoe.checkpoint.mini import CONTROL_TOKENS, export_trained, mini_config, mini_directory
from unimoe.checkpoint.weights import load_model, save_model
from unimoe.config import MoEConfig
from unimoe.errors import CheckpointError
from unimoe.model.allocate import parameter_shapes
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import with_deltas
from unimoe.recipes.tiny import tiny_config, tiny_tokenizer

MOE = MoEConfig(routed_width=128, shared_width=16, delta_rank=2)


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """A cache with a dense base, and a package that brings trained tensors for it."""
    config = tiny_config()
    assert config.vision is not None
    speaking = dataclasses.replace(config.vision, speaks_words=True)
    core = dataclasses.replace(config.core, moe=None)
    torch.manual_seed(2)
    dense = OmniModel(dataclasses.replace(config, core=core, vision=speaking))
    base = tmp_path / "models" / "mini-base-0"
    save_model(dense, base)
    tiny_tokenizer().save(str(base / "tokenizer.json"))
    mixture = with_deltas(dense, MOE)
    for name, parameter in mixture.named_parameters():
        if ".ffn." in name and ".deltas.base." not in name:
            parameter.data = torch.randn_like(parameter)
    assert mixture.vision is not None
    assert mixture.vision.words is not None
    mixture.vision.words.limit_to([3, 40, 41])
    package = tmp_path / "package"
    export_trained(mixture, package / "mini")
    monkeypatch.setattr(mini, "base_directory", lambda: base)
    monkeypatch.setattr(mini, "files", lambda name: package)
    return mixture, package / "mini"


def test_a_base_that_other_code_wrote_is_not_taken(tmp_path, monkeypatch):
    code, written = tmp_path / "code.py", []
    monkeypatch.setenv("UNIMOE_CACHE", str(tmp_path))
    monkeypatch.setattr(mini, "_WRITTEN_BY", (code,))

    def write_base(directory, *, offline):
        directory.mkdir(parents=True)
        written.append(code.read_text())

    monkeypatch.setattr(mini, "write_base", write_base)
    found = []
    for text in ("1", "1", "2", "1"):
        code.write_text(text)
        found.append(mini.base_directory())
    assert written == ["1", "2"]
    assert found[0] == found[1] == found[3] != found[2]


def test_what_was_trained_comes_back_on_its_base(installation):
    mixture, _ = installation
    directory = mini_directory()
    found = dict(load_model(directory, dtype="float32").named_parameters())
    assert (directory / "tokenizer.json").exists()
    for name, parameter in mixture.named_parameters():
        if name.startswith(("core.embed_tokens", "core.layers.0.ffn.deltas.base")):
            assert torch.equal(found[name], parameter)
        if ".deltas.routed." in name:
            step = parameter.abs().amax(-1, keepdim=True) / 254
            assert ((found[name] - parameter).abs() <= 1.001 * step).all()


def test_the_words_that_may_be_said_come_along(installation):
    vision = load_model(mini_directory()).vision
    assert vision is not None
    assert vision.words is not None
    assert vision.words.token_ids.tolist() == [3, 40, 41]


def test_it_is_put_together_once(installation):
    directory = mini_directory()
    stamp = (directory / "model.safetensors").stat().st_mtime_ns
    assert mini_directory() == directory
    assert (directory / "model.safetensors").stat().st_mtime_ns == stamp


def test_two_that_put_it_together_at_once_do_not_meet(installation, monkeypatch):
    real, met = mini.save_model, []

    def slow_save(model, directory):
        if not met:  # the other process comes, and is done first
            met.append(None)
            monkeypatch.setattr(mini.os, "getpid", lambda: 99)
            met[0] = mini_directory()
        real(model, directory)

    monkeypatch.setattr(mini, "save_model", slow_save)
    assert mini_directory() == met[0]
    assert (met[0] / "tokenizer.json").exists()
    assert [path.name for path in met[0].parent.iterdir() if path.name != "mini-base-0"] == [
        met[0].name
    ]


def test_what_is_cut_short_is_not_taken_for_whole(installation, monkeypatch):
    def killed(model, directory):
        directory.mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mini, "save_model", killed)
        with pytest.raises(KeyboardInterrupt):
            mini_directory()
    assert (mini_directory() / "model.safetensors").exists()


def test_heads_that_were_trained_lie_beside_the_model(installation):
    _, package = installation
    without = mini_directory()
    (package / "codec.json").write_text("{}")
    (package / "codec.safetensors").write_bytes(b"head")
    directory = mini_directory()
    assert directory != without
    assert (directory / "codec.safetensors").read_bytes() == b"head"
    load_model(directory)


def test_trained_tensors_of_another_size_are_refused(installation):
    _, package = installation
    values = json.loads((package / "config.json").read_text())
    (package / "config.json").write_text(json.dumps(values | {"delta_rank": 3}))
    with pytest.raises(CheckpointError, match="has no place in the model"):
        mini_directory()


def test_a_package_without_trained_tensors_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "files", lambda name: tmp_path)
    with pytest.raises(CheckpointError, match="unimoe train mini"):
        mini_directory()


def test_mini_has_the_sizes_of_its_parts():
    shapes = parameter_shapes(mini_config())
    core = [
        name for name in shapes if name.startswith("core.") and ".attention.deltas." not in name
    ]
    assert sum(torch.Size(shapes[name]).numel() for name in core) == 134_515_008  # SmolLM2-135M
    assert shapes["vision.tower.embeddings.position_embeddings"] == (1, 145, 384)
    assert shapes["audio.tower.embed_positions.weight"] == (200, 384)


def test_control_tokens_stand_where_the_configuration_says():
    special = mini_config().special_tokens
    names = dataclasses.asdict(special)
    for offset, token in enumerate(CONTROL_TOKENS[:11]):
        assert names[token.strip("<|>")] == 3 + offset
