"""Dense language models in GGUF files: configuration, dequantised weights, tokenizer.

In:  a .gguf file of the llama or qwen2 architecture.  Out: `GGUFFile`, a source of float32 tensors
under the names of a Qwen2 or Llama directory, and the tokenizer as the file brings it.
The gguf package is imported only here, where a file is read.
Source: GGUF format; row order of llama query and key matrices (docs/sources.md#gguf).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from unimoe.checkpoint.dialects import config_from_json
from unimoe.checkpoint.slots import Shape
from unimoe.config import OmniConfig
from unimoe.errors import CheckpointError

_OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3
_USER_TOKEN = 4
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class GGUFFile:
    """One file: configuration, and tensors dequantised when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its header.

        Raises:
            CheckpointError: no gguf package, a damaged file, or an architecture we do not read.
        """
        self._path = path
        reader = _reader(path)
        self._fields = {name: field.contents() for name, field in reader.fields.items()}
        self._architecture = str(self._fields.get("general.architecture"))
        if self._architecture not in ("llama", "qwen2"):
            raise CheckpointError(
                f"{path}: architecture {self._architecture!r}; readable are llama and qwen2"
            )
        self._stored = {_name(tensor.name): tensor for tensor in reader.tensors}
        if len(self._stored) < len(reader.tensors):
            raise CheckpointError(f"{path}: holds a tensor twice")
        self.shapes: Mapping[str, Shape] = {
            key: tuple(int(size) for size in reversed(tensor.shape))
            for key, tensor in self._stored.items()
        }
        self.dtypes: Mapping[str, torch.dtype] = dict.fromkeys(self._stored, torch.float32)
        self.stored_types: Mapping[str, str] = {
            key: tensor.tensor_type.name for key, tensor in self._stored.items()
        }
        self.config = self._config()
        self._refuse_narrow_window()

    def read(self, key: str) -> Tensor:
        """One tensor in float32, rows in the order of Hugging Face's rotary embedding."""
        from gguf import dequantize

        stored = self._stored[key]
        values = torch.from_numpy(dequantize(stored.data, stored.tensor_type).copy()).float()
        values = values.reshape(self.shapes[key])
        if self._architecture == "llama" and re.search(r"\.[qk]_proj\.", key):
            core = self.config.core
            return _unpermuted(values, core.num_heads if ".q_proj." in key else core.num_kv_heads)
        return values

    def write_tokenizer(self, directory: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and the chat template.

        Raises:
            CheckpointError: a kind of tokenizer that we cannot rebuild exactly.
        """
        self._require_known_kind()
        tokens = self._required("tokenizer.ggml.tokens", list)
        tokenizer = _tokenizer(
            tokens,
            self._required("tokenizer.ggml.merges", list),
            self._required("tokenizer.ggml.token_type", list),
        )
        self._set_word_rule(tokenizer)
        tokenizer.save(str(directory / "tokenizer.json"))
        settings = {
            f"{name}_token": tokens[self._fields[f"tokenizer.ggml.{name}_token_id"]]
            for name in ("bos", "eos")
            if f"tokenizer.ggml.{name}_token_id" in self._fields
        }
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        (directory / "tokenizer_config.json").write_text(text, "utf-8")
        template = self._fields.get("tokenizer.chat_template")
        if template:
            (directory / "chat_template.jinja").write_text(template, "utf-8")

    def _config(self) -> OmniConfig:
        """Through the names of a `config.json`, so that one reader checks both."""
        self._refuse_rope_scaling()
        heads = self._of_model("attention.head_count")
        end = self._fields.get("tokenizer.ggml.eos_token_id")
        values = {
            "model_type": self._architecture,
            "vocab_size": self.shapes.get("model.embed_tokens.weight", (0,))[0],
            "hidden_size": self._of_model("embedding_length"),
            "num_hidden_layers": self._of_model("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._of_model("attention.head_count_kv", heads),
            "head_dim": self._of_model("attention.key_length", None),
            "intermediate_size": self._of_model("feed_forward_length"),
            # stored in float32, where 1e-5 is 9.99999974e-06
            "rms_norm_eps": float(f"{self._of_model('attention.layer_norm_rms_epsilon'):.6g}"),
            "rope_theta": self._of_model("rope.freq_base", 10_000.0),
            "max_position_embeddings": self._of_model("context_length"),
            "tie_word_embeddings": "lm_head.weight" not in self._stored,
            "eos_token_id": end,
            "pad_token_id": self._fields.get("tokenizer.ggml.padding_token_id", end),
        }
        try:
            return config_from_json(values)
        except CheckpointError as error:
            raise CheckpointError(f"{self._path}: {error}") from error

    def _refuse_rope_scaling(self) -> None:
        scaling = self._of_model("rope.scaling.type", None)
        if "rope_freqs.weight" in self._stored:
            scaling = "llama3"  # its only trace in a file
        if scaling not in (None, "none"):
            raise CheckpointError(
                f"{self._path}: rope scaling {scaling!r}, which is not supported; supported are "
                "models with plain rotary positions, such as Llama 2, SmolLM2 and Qwen2.5"
            )

    def _refuse_narrow_window(self) -> None:
        window = self._of_model("attention.sliding_window", 0)
        is_wide = isinstance(window, int) and window >= self.config.core.max_positions
        if window and not is_wide:
            raise CheckpointError(
                f"{self._path}: a sliding window of {window} tokens, which is not supported; "
                "supported are models whose attention sees the whole context"
            )

    def _of_model(self, name: str, *default: Any) -> Any:
        """A field of the architecture's own group."""
        field = f"{self._architecture}.{name}"
        if field not in self._fields and not default:
            raise CheckpointError(f"{self._path}: lacks {field}")
        return self._fields.get(field, *default)

    def _required(self, name: str, kind: type) -> Any:
        value = self._fields.get(name)
        if not isinstance(value, kind):
            raise CheckpointError(f"{self._path}: lacks {name}; no tokenizer can be made from it")
        return value

    def _require_known_kind(self) -> None:
        kind = (self._fields.get("tokenizer.ggml.model"), self._fields.get("tokenizer.ggml.pre"))
        if kind not in (("gpt2", "smollm"), ("gpt2", "qwen2")):
            raise CheckpointError(
                f"{self._path}: tokenizer of kind {kind}; can be rebuilt are smollm and qwen2. "
                "Convert a directory with the model's own tokenizer.json instead"
            )

    def _set_word_rule(self, tokenizer: Tokenizer) -> None:
        """How text is divided before merging; the file only names the rule."""
        if self._fields["tokenizer.ggml.pre"] == "smollm":
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        else:
            words = pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated")
            plain_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, plain_bytes])
            tokenizer.normalizer = normalizers.NFC()


def _reader(path: Path) -> Any:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise CheckpointError(
            f"{path}: GGUF files need the gguf package, which is not installed; pip install gguf"
        ) from error
    try:
        return GGUFReader(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # the reader trusts its input: any kind of error may come of it
        raise CheckpointError(f"{path}: damaged or cut short ({error})") from error


def _name(name: str) -> str:
    """The tensor's name in a Qwen2 or Llama directory; an unknown one stays as it is."""
    in_layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if in_layer is None or in_layer[2] not in _IN_LAYER:
        return _OUTSIDE_LAYERS.get(name, name)
    return f"model.layers.{in_layer[1]}.{_IN_LAYER[in_layer[2]]}.{in_layer[3]}"


def _unpermuted(rows: Tensor, num_heads: int) -> Tensor:
    """From neighbouring rotary pairs back to halves: (0 4 1 5 2 6 3 7) becomes (0 1 ... 7)."""
    half = rows.shape[0] // num_heads // 2
    return rows.reshape(num_heads, half, 2, -1).transpose(1, 2).reshape(rows.shape)


def _tokenizer(tokens: list[str], merges: list[str], kinds: list[int]) -> Tokenizer:
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.decoder = decoders.ByteLevel()
    added = [
        AddedToken(token, normalized=False, special=kind == _CONTROL_TOKEN)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind in (_CONTROL_TOKEN, _USER_TOKEN)
    ]
    tokenizer.add_tokens(added)
    return tokenizer
