"""GGUF files: the same model as the directory they were made from."""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.checkpoint.tiny_checkpoints import dense_config, dense_directory, dense_model
from unimoe.checkpoint.gguf import GGUFFile
from unimoe.checkpoint.weights import convert, load_model
from unimoe.errors import CheckpointError

TEXT = "It rains, it pours: 42 cats & dogs!  Größe\n\n naïve <|im_end|> done"
Q8 = gguf.GGMLQuantizationType.Q8_0
CONTROL = ["<|im_start|>", "<|im_end|>"]


def to_pairs(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of a rotary half-and-half matrix in the order llama files keep: pairs side by side."""
    halves = weight.reshape(num_heads, 2, -1, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    values: dict,
    state: dict,
    *,
    extra: dict | None = None,
    tokenizer: Tokenizer | None = None,
    kind: str = "smollm",
    quantised: tuple[str, ...] = (),
    window: int = 0,
) -> Path:
    architecture = values["model_type"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(values["max_position_embeddings"])
    writer.add_embedding_length(values["hidden_size"])
    writer.add_block_count(values["num_hidden_layers"])
    writer.add_feed_forward_length(values["intermediate_size"])
    writer.add_head_count(values["num_attention_heads"])
    writer.add_head_count_kv(values["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(values["rms_norm_eps"])
    writer.add_rope_freq_base(values["rope_theta"])
    writer.add_eos_token_id(values["eos_token_id"])
    if window:
        writer.add_sliding_window(window)
    for name, value in (extra or {}).items():
        writer.add_string(name, value)
    if tokenizer is not None:
        add_tokenizer(writer, tokenizer, kind)
    names = {
        "embed_tokens": "token_embd", "lm_head": "output", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm", "q_proj": "attn_q", "k_proj": "attn_k",
        "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
        "up_proj": "ffn_up", "down_proj": "ffn_down", "norm": "output_norm",
        "rope_freqs": "rope_freqs",
    }  # fmt: skip
    heads = {"q_proj": values["num_attention_heads"], "k_proj": values["num_key_value_heads"]}
    for key, value in state.items():
        *_, owner, kind = key.split(".")
        block = f"blk.{key.split('.')[2]}." if ".layers." in key else ""
        array = value.numpy()
        if architecture == "llama" and owner in heads:
            array = to_pairs(array, heads[owner])
        name, array = f"{block}{names[owner]}.{kind}", np.ascontiguousarray(array)
        if key in quantised:
            writer.add_tensor(name, gguf.quantize(array, Q8), raw_dtype=Q8)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, kind: str) -> None:
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(kind)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in CONTROL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_chat_template("{{ messages }}")


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_a_file_loads_as_the_directory_it_came_from(tmp_path: Path, model_type: str) -> None:
    values = dense_config(model_type)
    model = dense_model(values)
    path = write_gguf(tmp_path / "model.gguf", values, model.state_dict())
    ours = load_model(path)
    wanted = load_model(dense_directory(tmp_path / "dense", model, values))
    assert ours.config == wanted.config
    pairs = zip(ours.named_parameters(), wanted.parameters(), strict=True)
    for (name, found), expected in pairs:
        assert torch.equal(found, expected), name


def test_a_file_without_output_matrix_ties_its_embeddings(tmp_path: Path) -> None:
    values = dense_config("llama", tie_word_embeddings=True)
    state = dense_model(values).state_dict()
    del state["lm_head.weight"]
    path = write_gguf(tmp_path / "model.gguf", values, state)
    assert load_model(path).core.lm_head is None


def test_quantised_blocks_become_float32(tmp_path: Path) -> None:
    values = dense_config("llama")
    state = dense_model(values).state_dict()
    key = "model.layers.0.mlp.gate_proj.weight"
    file = GGUFFile(write_gguf(tmp_path / "model.gguf", values, state, quantised=(key,)))
    found, wanted = file.read(key), state[key]
    assert file.stored_types[key] == "Q8_0"
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=0, atol=float(wanted.abs().max()) / 127)


def test_an_unknown_tensor_stops_a_load(tmp_path: Path) -> None:
    values = dense_config("llama")
    state = dense_model(values).state_dict()
    state["model.layers.0.mlp.up_proj.scale"] = torch.ones(1)
    path = write_gguf(tmp_path / "model.gguf", values, state)
    with pytest.raises(CheckpointError, match=r"1 unexpected.*\n  blk.0.ffn_up.scale"):
        load_model(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_a_checkpoint_error(tmp_path: Path, share: float) -> None:
    values = dense_config("llama")
    path = write_gguf(tmp_path / "model.gguf", values, dense_model(values).state_dict())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"model.gguf: damaged or cut short"):
        load_model(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing.gguf: no such file"):
        load_model(tmp_path / "nothing.gguf")


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match=r"pip install gguf"):
        load_model(tmp_path / "model.gguf")


@pytest.mark.parametrize("architecture", ["gemma3", "mamba"])
def test_another_architecture_is_refused(tmp_path: Path, architecture: str) -> None:
    values = dense_config("llama") | {"model_type": architecture}
    path = write_gguf(tmp_path / "model.gguf", values, {})
    with pytest.raises(CheckpointError, match=rf"architecture '{architecture}'; readable are"):
        load_model(path)


def test_rope_scaling_is_refused(tmp_path: Path) -> None:
    extra = {"llama.rope.scaling.type": "linear"}
    path = write_gguf(tmp_path / "model.gguf", dense_config("llama"), {}, extra=extra)
    with pytest.raises(
        CheckpointError, match=r"rope scaling 'linear', which is not .* plain rotary positions"
    ):
        load_model(path)


def test_the_rope_scaling_of_llama_3_is_refused_by_its_factors(tmp_path: Path) -> None:
    state = {"rope_freqs.weight": torch.ones(4)}
    path = write_gguf(tmp_path / "model.gguf", dense_config("llama"), state)
    with pytest.raises(CheckpointError, match=r"rope scaling 'llama3', which is not supported"):
        load_model(path)


def test_a_sliding_window_is_refused_where_it_hides_something(tmp_path: Path) -> None:
    values = dense_config("llama")
    state = dense_model(values).state_dict()
    narrow = write_gguf(tmp_path / "narrow.gguf", values, state, window=127)
    with pytest.raises(CheckpointError, match=r"sliding window of 127 tokens.*whole context"):
        load_model(narrow)
    load_model(write_gguf(tmp_path / "wide.gguf", values, state, window=128))


def test_a_sliding_window_that_is_no_number_is_refused(tmp_path: Path) -> None:
    values, extra = dense_config("llama"), {"llama.attention.sliding_window": "wide"}
    state = dense_model(values).state_dict()
    path = write_gguf(tmp_path / "model.gguf", values, state, extra=extra)
    with pytest.raises(CheckpointError, match=r"sliding window of wide tokens"):
        load_model(path)


def trained_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    return tokenizer


def with_tokenizer(path: Path, tokenizer: Tokenizer, kind: str) -> Path:
    values = dense_config("llama", vocab_size=tokenizer.get_vocab_size())
    return write_gguf(
        path, values, dense_model(values).state_dict(), tokenizer=tokenizer, kind=kind
    )


def test_the_tokenizer_comes_out_as_it_went_in(tmp_path: Path) -> None:
    tokenizer = trained_tokenizer()
    source = with_tokenizer(tmp_path / "model.gguf", tokenizer, "smollm")
    convert(source, tmp_path / "ours", dialect="unimoe")
    again = Tokenizer.from_file(str(tmp_path / "ours" / "tokenizer.json"))
    ids = tokenizer.encode(TEXT).ids
    assert again.encode(TEXT).ids == ids
    assert again.decode(ids, skip_special_tokens=False) == TEXT
    assert (tmp_path / "ours/chat_template.jinja").read_text() == "{{ messages }}"
    assert '"eos_token"' in (tmp_path / "ours/tokenizer_config.json").read_text()


def test_the_qwen_word_rule_parts_digits_and_normalises(tmp_path: Path) -> None:
    source = with_tokenizer(tmp_path / "model.gguf", trained_tokenizer(), "qwen2")
    GGUFFile(source).write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    words = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str("it's 42 cats!\n\n x")]
    assert words == ["it", "'s", "Ġ", "4", "2", "Ġcats", "!ĊĊ", "Ġx"]
    assert tokenizer.encode("Größe").ids == tokenizer.encode("Größe").ids


def test_an_unknown_kind_of_tokenizer_stops_a_conversion(tmp_path: Path) -> None:
    source = with_tokenizer(tmp_path / "model.gguf", trained_tokenizer(), "llama-bpe")
    with pytest.raises(
        CheckpointError, match=r"\('gpt2', 'llama-bpe'\); can be rebuilt are smollm"
    ):
        convert(source, tmp_path / "ours", dialect="unimoe")


def test_a_sentencepiece_tokenizer_is_refused_by_its_kind(tmp_path: Path) -> None:
    values, extra = dense_config("llama"), {"tokenizer.ggml.model": "llama"}
    state = dense_model(values).state_dict()
    path = write_gguf(tmp_path / "model.gguf", values, state, extra=extra)
    with pytest.raises(CheckpointError, match=r"\('llama', None\); can be rebuilt are smollm and"):
        GGUFFile(path).write_tokenizer(tmp_path)
