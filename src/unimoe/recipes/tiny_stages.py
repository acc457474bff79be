"""The stages of the paper at toy size, in seconds: `unimoe train tiny`.

    connectors                 the aligner and the Q-Former learn, the dense core is frozen
    vision, speech, text       three dense specialists of the core's feed-forward blocks
    warm-up                    the three upcycled into one mixture; router and shared experts learn
    mixed                      the whole mixture learns on everything
    annealing                  the same at a lower rate on balanced data; writes `checkpoint/`
    vae, image                 what draws (`recipes/drawing.py`), of squares of a colour
    codec … experts            what speaks (`recipes/speech.py`), of sweeps that pass for sentences

The data are three small sets made here: the colour of a square, the pitch of a tone, a number said
again. The tiny model does learn the colours.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unimoe.checkpoint.weights import load_model, save_model
from unimoe.config import (
    AUDIO_RATE_HZ,
    MelCodecConfig,
    SpeakerConfig,
    TalkerConfig,
    TimedTalkerConfig,
)
from unimoe.data.card import DataCard
from unimoe.data.manifest import read_manifest
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import SPLITS
from unimoe.data.writer import DatasetWriter
from unimoe.media.encode import encode_audio
from unimoe.model.omni import OmniModel
from unimoe.model.upcycle import upcycle
from unimoe.recipes.speech import SpeechRecipe
from unimoe.recipes.tiny import build_tiny, tiny_config
from unimoe.recipes.tiny_drawing import tiny_drawing
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.console import PreparationConsole
from unimoe.train.features import PreparedSet, prepare, prepared_folder
from unimoe.train.plan import HeadPlan, Plan
from unimoe.train.readings import Reading
from unimoe.train.stages import Material, Stage, apply_trained

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
PITCHES_HZ = {"low": 150.0, "high": 1200.0}
SPECIALISTS = ("vision", "speech", "text")
_SET_OF = {"vision": "colours", "speech": "tones", "text": "numbers"}
_CONNECTORS = {"vision.aligner.*": 1.0, "audio.qformer.*": 1.0}
_FEED_FORWARD = {"core.layers.*.ffn.*": 1.0}
_SAMPLES_PER_SPLIT = {"train": 36, "validation": 6, "test": 6}


def build_tiny_data(folder: Path) -> None:
    """Three data sets of 48 samples each: `colours`, `tones`, `numbers`."""
    for name, sample_of in (("colours", _colour), ("tones", _tone), ("numbers", _number)):
        random = np.random.default_rng(len(name))
        with DatasetWriter(folder / name, name) as writer:
            numbers = iter(range(1000))
            for split in SPLITS:
                for number in (next(numbers) for _ in range(_SAMPLES_PER_SPLIT[split])):
                    writer.add(split, sample_of(number, writer, random))
            made = "Made by the tiny recipe"
            writer.close(
                DataCard(subject=name, source=made, licence="Apache-2.0", split_rule="by number")
            )


def _colour(number: int, writer: DatasetWriter, random: np.random.Generator) -> OmniSample:
    name = list(COLOURS)[number % len(COLOURS)]
    pixels = np.empty((56, 56, 3), np.uint8)
    pixels[:] = np.clip(np.array(COLOURS[name]) + random.integers(-25, 26, 3), 0, 255)
    picture = writer.image(f"square {number}", Image.fromarray(pixels))
    words = (Turn("user", "<image>What colour?"), Turn("assistant", name))
    return OmniSample(
        id=f"colour {number}",
        conversations=words,
        images=(picture,),
        task="colour",
        answers=(name,),
    )


def _tone(number: int, writer: DatasetWriter, random: np.random.Generator) -> OmniSample:
    name = list(PITCHES_HZ)[number % len(PITCHES_HZ)]
    pitch_hz = PITCHES_HZ[name] * random.uniform(0.8, 1.25)
    times = np.arange(2 * AUDIO_RATE_HZ) / AUDIO_RATE_HZ
    wave = (0.4 * np.sin(2 * np.pi * pitch_hz * times)).astype(np.float32)
    sound = writer.audio(f"tone {number}", wave, AUDIO_RATE_HZ)
    words = (Turn("user", "<audio>High or low?"), Turn("assistant", name))
    return OmniSample(
        id=f"tone {number}", conversations=words, audios=(sound,), task="pitch", answers=(name,)
    )


def _number(number: int, writer: DatasetWriter, random: np.random.Generator) -> OmniSample:
    name = str(number)
    words = (Turn("user", f"Say {name}."), Turn("assistant", name))
    return OmniSample(id=f"number {number}", conversations=words, task="repeat", answers=(name,))


def _dense(folder: Path) -> OmniModel:
    """The random dense model that everything begins with."""
    model = _mixture_of_random_weights(folder)
    core = dataclasses.replace(model.config.core, moe=None)
    torch.manual_seed(0)
    dense = OmniModel(dataclasses.replace(model.config, core=core))
    parameters = dict(dense.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in parameters:
                parameters[name].copy_(parameter)
    return dense


def _mixture_of_random_weights(folder: Path) -> OmniModel:
    """The tiny model as it is made; its tokenizer is that of all stages."""
    if not (folder / "random" / "config.json").exists():
        shutil.rmtree(folder / "random", ignore_errors=True)
        build_tiny(folder / "random")
    return load_model(folder / "random")


def _connected(folder: Path) -> OmniModel:
    model = _dense(folder)
    apply_trained(model, folder / "connectors")
    return model


def _upcycled(folder: Path) -> OmniModel:
    """One routed expert a specialist; the fourth is the core's own."""
    connected = _connected(folder)
    specialists = {}
    for place, name in enumerate(SPECIALISTS):
        specialists[place] = copy.deepcopy(connected)
        apply_trained(specialists[place], folder / name)
    moe = tiny_config().core.moe
    assert moe is not None  # the tiny model is a mixture
    return upcycle(connected, moe, sources=specialists)


def _mixed(folder: Path, *stages: str) -> OmniModel:
    model = _upcycled(folder)
    for stage in stages:
        apply_trained(model, folder / stage)
    return model


def _sets(model: OmniModel, folder: Path, split: str) -> Mapping[str, PreparedSet]:
    """The data with the states of the towers, which no stage changes."""
    data = folder / "data"
    if not (data / "numbers" / "dataset.json").exists():
        build_tiny_data(data)
    vocabulary = Vocabulary.from_directory(folder / "random", model.config.special_tokens)
    manifests = {
        f"{name}-{split}": read_manifest(data / name / f"{split}.jsonl")
        for name in _SET_OF.values()
    }
    found = prepare(
        manifests,
        prepared_folder(folder / "prepared", model, vocabulary),
        model,
        vocabulary,
        on_progress=PreparationConsole().show,
    )
    return {name.removesuffix(f"-{split}"): found[name] for name in found}


def _material(model: OmniModel, plan: Plan, folder: Path) -> Material:
    validation = _sets(model, folder, "validation")
    return Material(
        model=model,
        sources=_sets(model, folder, "train"),
        validation={name: validation[name] for name in plan.mixture},
    )


def _write_checkpoint(model: OmniModel, folder: Path) -> None:
    """The finished model as a directory that `unimoe chat --model` takes."""
    target = folder / "checkpoint"
    shutil.rmtree(target, ignore_errors=True)
    save_model(model, target)
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copyfile(folder / "random" / name, target / name)


def _plan(learns: Mapping[str, float], mixture: Mapping[str, float], **changes: float) -> Plan:
    plan = Plan(
        steps=20,
        tokens_per_step=512,
        row_length=256,
        learns=learns,
        mixture=mixture,
        lr=1e-2,
        warmup_steps=3,
        save_every=10,
        evaluate_every=10,
        evaluate_tokens=256,
        expert_use_every=10,
    )
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


def _sweeps(folder: Path, split: str) -> list[Reading]:
    """Four rising tones, called sentences."""
    readings = []
    (folder / "sweeps").mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(("go on.", "well, yes.", "no.", "as you like.")):
        path = folder / "sweeps" / f"{split}-{number}.flac"
        times = np.arange(18_000) / TINY_CODEC.sample_rate_hz
        wave = 0.4 * np.sin(2 * np.pi * (150 + 200 * number + 400 * times) * times)
        rate_hz = TINY_CODEC.sample_rate_hz
        path.write_bytes(encode_audio((wave.astype(np.float32), rate_hz), sample_rate_hz=rate_hz))
        readings.append(Reading(path, text, "tone"))
    return readings


TINY_CODEC = MelCodecConfig(
    num_codes=64,
    code_width=8,
    fine_width=16,
    fine_layers=(1, 1),
    hidden_size=32,
    num_layers=(1, 2),
    num_heads=2,
)
TINY_TALKER = TimedTalkerConfig(
    talker=TalkerConfig(
        text_vocab_size=40,
        text_width=16,
        num_codes=64,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        expert_width=24,
    ),
    voices=("tone",),
)
_HEAD_PLAN = HeadPlan(steps=20, batch_size=4, learns={"*": 1.0}, lr=3e-3, warmup_steps=3)
_SPEECH = SpeechRecipe(
    config=SpeakerConfig(talker=TINY_TALKER, codec=TINY_CODEC),
    readings=_sweeps,
    codec_plan=_HEAD_PLAN,
    decoder_plan=dataclasses.replace(_HEAD_PLAN, learns={"codec.decoder.*": 1.0}),
    talker_plan=_HEAD_PLAN,
    experts_plan=_HEAD_PLAN,
    voice_plan=_HEAD_PLAN,
)

_EVEN = {"colours": 1.0, "tones": 1.0, "numbers": 1.0}

STAGES: Mapping[str, Stage[Any]] = {
    "connectors": Stage(
        caption="aligner and Q-Former learn to speak to the frozen core",
        plan=_plan(_CONNECTORS, {"colours": 1.0, "tones": 1.0}),
        material=lambda plan, folder: _material(_dense(folder), plan, folder),
    ),
    **{
        name: Stage(
            caption=f"a dense specialist for {name}",
            plan=_plan(_FEED_FORWARD, {_SET_OF[name]: 1.0}),
            material=lambda plan, folder: _material(_connected(folder), plan, folder),
        )
        for name in SPECIALISTS
    },
    "warm-up": Stage(
        caption="router and shared experts learn to use the specialists",
        plan=_plan({"*.ffn.router.*": 1.0, "*.ffn.shared_*": 1.0}, _EVEN),
        material=lambda plan, folder: _material(_upcycled(folder), plan, folder),
    ),
    "mixed": Stage(
        caption="experts, router and connectors learn on everything",
        plan=_plan(_FEED_FORWARD | _CONNECTORS, _EVEN),
        material=lambda plan, folder: _material(_mixed(folder, "warm-up"), plan, folder),
    ),
    "annealing": Stage(
        caption="the same at a lower rate",
        plan=_plan(_FEED_FORWARD | _CONNECTORS, _EVEN, lr=3e-3, ema_decay=0.9),
        material=lambda plan, folder: _material(_mixed(folder, "warm-up", "mixed"), plan, folder),
        finish=_write_checkpoint,
    ),
    **tiny_drawing().stages(),
    **_SPEECH.stages(),
}
