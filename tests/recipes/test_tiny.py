"""The tiny model is complete, small, and the same for the same seed."""

import json
import subprocess
import sys

import pytest

from unimoe.checkpoint.weights import load_model
from unimoe.config import RoutingRule
from unimoe.errors import CheckpointError
from unimoe.recipes.tiny import SPECIAL_TEXTS, build_tiny, tiny_config
from unimoe.tokens.message import ImagePart, message
from unimoe.tokens.template import render
from unimoe.tokens.vocabulary import Vocabulary

BUILD = "import sys; from unimoe.recipes.tiny import build_tiny; build_tiny(sys.argv[1])"


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_same_seed_gives_the_same_bytes_in_another_process(tiny_directory, tmp_path):
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], check=True, timeout=60)
    assert contents(tmp_path) == contents(tiny_directory)


def test_another_seed_gives_other_weights_and_the_same_tokenizer(tiny_directory, tmp_path):
    build_tiny(tmp_path, seed=1)
    ours, default = contents(tmp_path), contents(tiny_directory)
    assert ours["model.safetensors"] != default["model.safetensors"]
    assert ours["tokenizer.json"] == default["tokenizer.json"]


def test_it_has_every_part_and_under_three_megabytes(tiny_directory):
    model = load_model(tiny_directory)
    assert model.config == tiny_config()
    assert model.vision is not None
    assert model.audio is not None
    assert model.config.core.moe is not None
    assert sum(map(len, contents(tiny_directory).values())) < 3_000_000


def test_the_tokenizer_has_every_special_token_at_the_id_of_the_config(tiny_directory):
    tokens = tiny_config().special_tokens
    vocabulary = Vocabulary.from_directory(tiny_directory, tokens)
    for name, text in SPECIAL_TEXTS.items():
        assert vocabulary.control_id(text) == getattr(tokens, name)
    assert vocabulary.size == tiny_config().core.vocab_size


@pytest.mark.parametrize("text", ["What do you see?", "Zürich 🎈\n\t12", "日本語", ""])
def test_any_text_survives_the_tokenizer(tiny_directory, text):
    vocabulary = Vocabulary.from_directory(tiny_directory, tiny_config().special_tokens)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_its_template_prints_the_form_used_without_any(tiny_directory, tmp_path):
    tokens = tiny_config().special_tokens
    (tmp_path / "tokenizer.json").write_bytes((tiny_directory / "tokenizer.json").read_bytes())
    own = Vocabulary.from_directory(tiny_directory, tokens)
    built_in = Vocabulary.from_directory(tmp_path, tokens)
    assert own.chat_template is not None
    assert built_in.chat_template is None
    chats = [
        [message("user", "Hello"), message("assistant", "Hi"), message("user", " And now?\n")],
        [message("system", "Be brief."), message("user", ImagePart("a.png"), "What?")],
    ]
    for chat in chats:
        for opens in (True, False):
            assert render(chat, own, add_generation_prompt=opens) == render(
                chat, built_in, add_generation_prompt=opens
            )


@pytest.mark.parametrize("rule", RoutingRule.__args__)
def test_the_rule_is_that_of_routing_and_positions(rule):
    config = tiny_config(rule=rule)
    assert config.core.moe.router.rule == config.position_rule == rule


def test_a_directory_that_holds_a_checkpoint_is_left_alone(tiny_directory, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="already holds"):
        build_tiny(tmp_path)
    assert contents(tmp_path) == {"config.json": b"{}"}
