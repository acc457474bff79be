"""The released talker, number for number: training forward and inference at three capacities."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.heads.made_talkers import FOLDER, recorded, released_directory
from unimoe.checkpoint.storage import read_json
from unimoe.heads import top2
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.released_speech import collate_speech_released, write_codes_released
from unimoe.heads.speech_rows import SpeechBatch, SpeechExample
from unimoe.heads.talker_weights import load_talker, read_talker_config
from unimoe.heads.top2 import route_top2

FACTORS = {"eval_cf1.0": 1.0, "train_cf1.5": 1.5, "off": None}
TRAINING = [
    *(f"training_forward.{setting}" for setting in FACTORS),
    *(f"training_forward_prefix.{setting}" for setting in FACTORS),
    "training_forward_gumbel.train_cf1.5",
]
INFERENCE = [
    *(f"infer.{setting}" for setting in FACTORS),
    *(f"infer_prefix.{setting}" for setting in FACTORS),
    "infer_eos.off",
]


RECORDED = {case["file"]: case for case in json.loads((FOLDER / "cases.json").read_text())}


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Choices dropped by each layer that is run, in order."""
    counts: list[int] = []

    def counting(*args, **options):
        routing = route_top2(*args, **options)
        counts.append(int((routing.selected & ~routing.mask).sum()))
        return routing

    monkeypatch.setattr(top2, "route_top2", counting)
    return counts


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released_directory(tmp_path_factory.mktemp("talker"))


def talker_for(case: str, directory: Path) -> MoETTS:
    config = read_talker_config(read_json(directory / "config.json"))
    factor = FACTORS[case.partition(".")[2]]
    return load_talker(directory, dataclasses.replace(config, capacity_factor=factor))


def batch_of(case: dict[str, Tensor], talker: MoETTS) -> SpeechBatch:
    def rows(name: str) -> list[list[int]]:
        lengths = case[f"{name}_lens"].tolist()
        return [row[:length].tolist() for row, length in zip(case[name], lengths, strict=True)]

    contexts = rows("prefix") if "prefix" in case else [None, None]
    examples = [
        SpeechExample(voice_ids=voice, text_ids=text, context_codes=context, codes=codes)
        for voice, text, context, codes in zip(
            rows("prompt"), rows("x"), contexts, rows("y"), strict=True
        )
    ]
    return collate_speech_released(examples, talker.config)


@pytest.mark.parametrize("name", TRAINING)
def test_training_forward_equals_the_recorded_one(
    name: str, directory: Path, dropped: list[int]
) -> None:
    case, talker = recorded(name), talker_for(name, directory)
    batch = batch_of(case, talker)
    noise = case.get("draw.gumbel")
    with torch.no_grad():
        states = talker(talker.embed(batch.ids, batch.is_text), batch.visible, gate_noise=noise)
        num_dropped = list(dropped)
        loss = talker.loss(batch, gate_noise=noise)
    wanted = case["expected.logits"]
    logits = talker.head(states[:, -wanted.shape[1] :])
    asked = torch.arange(wanted.shape[1]) < case["y_lens"][:, None] + 1
    torch.testing.assert_close(logits[asked], wanted[asked], rtol=0, atol=1e-4)
    torch.testing.assert_close(loss, case["expected.loss"], rtol=0, atol=1e-5)
    assert num_dropped == RECORDED[name].get("dropped_assignments_per_layer", num_dropped)


@pytest.mark.parametrize("name", INFERENCE)
def test_released_inference_writes_the_recorded_codes(
    name: str, directory: Path, dropped: list[int]
) -> None:
    case, talker = recorded(name), talker_for(name, directory)
    if "out_fnn.bias" in case:
        talker.head.bias.data.copy_(case["out_fnn.bias"])
    example = SpeechExample(
        voice_ids=case["prompt_ids"][0].tolist(),
        text_ids=case["x_ids"][0].tolist(),
        context_codes=case["prefix"][0].tolist() if "prefix" in case else None,
    )
    ends_by_itself = name.startswith("infer_eos")
    num_steps = len(case["expected.step_logits"])
    limit = 1000 if ends_by_itself else num_steps
    steps = list(write_codes_released(talker, example, max_codes=limit))
    codes = torch.tensor([step.code for step in steps])
    assert len(steps) == num_steps
    assert torch.equal(codes[: num_steps - ends_by_itself], case["expected.codes"])
    torch.testing.assert_close(
        torch.stack([step.logits for step in steps]),
        case["expected.step_logits"],
        rtol=0,
        atol=1e-4,
    )
    assert sum(dropped) == RECORDED[name].get("total_dropped", 0)
