"""Small checkpoints for tests: a released one from the fixtures, dense ones from transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

RELEASED = Path(__file__).parents[1] / "golden" / "checkpoint_understanding"
HEADS = {
    "speech_generator.in_fnn.weight": torch.arange(12.0).view(3, 4),
    "image_generator.model.x_embedder.bias": torch.ones(5, dtype=torch.bfloat16),
    "visual_hidden_fcs.0.model.bias": torch.ones(2),
}


def released_copy(directory: Path, **changed: Any) -> Path:
    """The released fixture, its configuration changed."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copyfile(RELEASED / name, directory / name)
    return change_config(directory, **changed) if changed else directory


def released_with_heads(directory: Path) -> Path:
    """As the Omni checkpoint: another model type, and heads beside the understanding part."""
    released_copy(directory, model_type="grin_qwen2_vl_out", speech_generator_type="ar_ori_v2_new")
    return change_tensors(directory, add=HEADS)


def change_config(directory: Path, **changed: Any) -> Path:
    """Set fields of `config.json`; None removes one."""
    path = directory / "config.json"
    values = json.loads(path.read_text()) | changed
    kept = {name: value for name, value in values.items() if value is not None}
    path.write_text(json.dumps(kept, indent=2) + "\n")
    return directory


def change_tensors(
    directory: Path, *, add: dict[str, Tensor] | None = None, drop: tuple[str, ...] = ()
) -> Path:
    """Add or replace tensors of the one file, or drop them."""
    tensors = load_file(directory / "model.safetensors") | (add or {})
    kept = {key: value for key, value in tensors.items() if key not in drop}
    save_file(kept, directory / "model.safetensors", {"format": "pt"})
    return directory


def dense_config(model_type: str = "qwen2", **changed: Any) -> dict[str, Any]:
    """A `config.json` of a language model of two layers."""
    values = {
        "model_type": model_type,
        "vocab_size": 90,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e4,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
    }
    return {name: value for name, value in (values | changed).items() if value is not None}


def dense_model(values: dict[str, Any]) -> Any:
    """The model transformers makes of such a configuration, with random weights of lively size."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kinds = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
    config_type, model_type = kinds[values["model_type"]]
    torch.manual_seed(0)
    model = model_type(config_type(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model


def dense_directory(directory: Path, model: Any, values: dict[str, Any]) -> Path:
    """Its weights in one file, and the configuration as given."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    if values["tie_word_embeddings"]:
        del tensors["lm_head.weight"]
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(values))
    return directory
