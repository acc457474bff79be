"""The stages that make mini: SmolLM2, DINOv2 and Whisper become one mixture of experts.

    words       the speech connector learns to speak in word embeddings: of speech by CTC, of
                sounds by what is heard when (no core is run)
    pictures    the image connector likewise, by what is where
    vision      specialist of images and video: deltas of the feed-forward blocks
    speech      specialist of understanding speech
    sound       specialist of sounds and of answers meant to be spoken
    routing     the three and the core's own blocks as one mixture: routers are aimed at the
                modalities, then routers and shared experts learn
    mixed       the whole mixture learns on everything
    annealing   the same at a lower rate on a balanced mixture
    vae, image  what draws: see `recipes/drawing.py`
    codec, …    what speaks: see `recipes/speech.py`

Both connectors speak in soft words (`encoders/soft_words.py`), those that alignment told them.
Towers are frozen in all stages: their states are computed once and kept. The image connector is
frozen once it is aligned: stages through the core undo what alignment taught it. That of speech
learns on, at a quarter of the rate: frozen, it costs more than it keeps. What is added to attention
is shared by all tokens, and learns with everything alone (docs/log.md).
Where an export of a former run lies in the folder as `former.safetensors`, connectors, attention
and experts go on from it, and `mixed` from its mixture unless this run has a `routing`; what that
run has seen is then no longer held out.
Source: paper section 2 and table 2 (docs/sources.md#recipe).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeAlias

from safetensors.torch import save_file
from torch import Tensor

from unimoe.checkpoint.mini import base_directory, export_trained
from unimoe.checkpoint.packed import read_packed
from unimoe.checkpoint.weights import load_model
from unimoe.config import MoEConfig
from unimoe.data.build.ocr import FURTHER_FONTS, PARTS, WrittenTexts
from unimoe.data.manifest import read_manifest
from unimoe.encoders.soft_words import SoftWords
from unimoe.errors import CheckpointError
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import specialist_moe, take_expert, with_deltas
from unimoe.nn.precision import product_dtype
from unimoe.parts import cache_directory, fetch, part
from unimoe.recipes.mini_dictation import DictationSamples
from unimoe.recipes.mini_drawing import mini_drawing
from unimoe.recipes.mini_letters import LetterSamples
from unimoe.recipes.mini_routing import ROW_LENGTH, Teaching, aim_at_modalities
from unimoe.recipes.mini_speech import mini_speech
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.align import WordAlignment, let_speak
from unimoe.train.batches import SampleSource
from unimoe.train.console import PreparationConsole
from unimoe.train.features import PreparedSet, prepare, prepared_folder
from unimoe.train.loop import TRAINED_NAME
from unimoe.train.losses import Objective, forward_loss
from unimoe.train.plan import Plan
from unimoe.train.stages import Material, Stage, apply_trained, trained_tensors

Encoder: TypeAlias = Literal["vision", "audio"]

DELTA_RANK = 16
SPECIALISTS = {0: "vision", 1: "speech", 2: "sound"}
"""Routed experts by the stage that makes them; the fourth is the core's own block."""

IMAGES = {"easy_vqa": 1.0, "naming": 2.0, "scenes": 2.0, "ocr": 1.0}
_LETTERS = "letters"
"""In a mixture: pictures of text drawn for it, not a set."""
_DICTATION, _DICTATED = "dictation", "speech"
"""In a mixture: the recordings of this set, each answered with what is written in its clips."""
_PICTURES = {"easy_vqa": 0.3, "naming": 1.0, "scenes": 3.0, "ocr": 1.2, _LETTERS: 4.0}
"""For alignment: what takes longest to tell apart comes most often."""
VIDEO = {"video": 1.5}
TRANSCRIPTS = {"speech": 2.0, "vocabulary": 2.0}
SPEECH = TRANSCRIPTS | {"spoken": 1.0}
SOUNDS = {"sounds": 2.0}
TEXT = {"text": 1.0}
_TAUGHT_BY = {"vision": IMAGES | VIDEO, "speech": SPEECH, "sound": SOUNDS}

_WORDS_NAME = "words.safetensors"
_FORMER_NAME = "former.safetensors"
_QFORMER = "audio.qformer."
_SPEECH_CONNECTOR = {
    f"{_QFORMER}{part}": 1.0
    for part in (
        "projector.*",
        "moment.*",
        "query_tokens",
        "decoder.layers.*",
        "decoder.layer_norm.*",
        "decoder.embed_positions.*",
    )
}
_IMAGE_CONNECTOR = {
    # Of a thousand inputs: a step of the full rate may move an embedding as far as words lie apart.
    "vision.aligner.*_detail.weight": 0.3,
    "vision.aligner.*": 1.0,
}
_DELTAS = {"core.layers.*.ffn.deltas.routed.*": 1.0}
_ATTENTION = {"core.layers.*.attention.deltas.*": 1.0}
_ROUTERS = {"core.layers.*.ffn.router.*": 1.0}
_SHARED = {"core.layers.*.ffn.deltas.shared.*": 1.0}


def mini_moe() -> MoEConfig:
    """4 routed experts of 1536 channels, 1 null, 2 shared of 192; deltas of rank 16."""
    return MoEConfig(routed_width=1536, shared_width=192, delta_rank=DELTA_RANK)


def mini_stages() -> dict[str, Stage[Any]]:
    """All stages, in their order."""
    return {
        "words": _stage(
            "speech connector, by the words of speech and sounds",
            _plan(2000, TRANSCRIPTS | SOUNDS, _SPEECH_CONNECTOR, lr=1e-3, rows_per_step=8),
            _dense,
            aligns="audio",
            finish=lambda model, runs: _write_words(model, "audio", runs / "words"),
        ),
        "pictures": _stage(
            "image connector, by the words of what is where",
            _plan(1500, _PICTURES, _IMAGE_CONNECTOR, lr=1e-3, rows_per_step=16),
            _dense,
            aligns="vision",
            finish=lambda model, runs: _write_words(model, "vision", runs / "pictures"),
        ),
        "vision": _stage(
            "specialist of images and video",
            _plan(600, IMAGES | VIDEO, _DELTAS, lr=1e-3),
            lambda runs: _specialist(runs, 0),
        ),
        "speech": _stage(
            "specialist of understanding speech",
            _plan(500, SPEECH, _DELTAS | _gentle(_SPEECH_CONNECTOR), lr=1e-3),
            lambda runs: _specialist(runs, 1),
        ),
        "sound": _stage(
            "specialist of sounds and of answers to be spoken",
            _plan(200, SOUNDS | TEXT, _DELTAS, lr=1e-3),
            lambda runs: _specialist(runs, 2, "speech"),
        ),
        "routing": _stage(
            "routers and shared experts",
            _plan(60, _EVERYTHING, _ROUTERS | _SHARED, lr=3e-4),
            _mixture,
        ),
        "mixed": _stage(
            "the mixture, on everything",
            _plan(500, _EVERYTHING, _MIXTURE, lr=8e-4, rows_per_step=4),
            _trained_mixture,
        ),
        "annealing": _stage(
            "the mixture, balanced, at a lower rate",
            _plan(100, dict.fromkeys(_EVERYTHING, 1.0), _MIXTURE, lr=1e-4, rows_per_step=4),
            lambda runs: _trained_mixture(runs, "mixed"),
            finish=lambda model, runs: export_trained(model, runs / "trained"),
        ),
        **mini_drawing().stages(),
        **mini_speech().stages(),
    }


def _gentle(learns: Mapping[str, float]) -> dict[str, float]:
    """At a quarter of the rate: it has learned once already."""
    return {pattern: factor / 4 for pattern, factor in learns.items()}


_EVERYTHING = {
    "easy_vqa": 0.2,
    "naming": 1.3,
    "scenes": 4.0,
    "ocr": 2.5,
    _LETTERS: 3.5,
    "video": 12.0,
    _DICTATION: 3.0,
    "spoken": 1.2,
    "sounds": 1.6,
    "combined": 0.9,
    "text": 0.7,
    "core_prose": 2.0,
}
"""What is learned first comes least: names are in the tokens, and cost 0.02 nats from the 50th step
on. Scenes, video and reading, where tokens must be told apart, come most. What the core itself
writes keeps it fluent, if it is new to it: short answers alone do not, nor did a twentieth of what
it had seen before."""
_MIXTURE = _ROUTERS | _SHARED | _DELTAS | _ATTENTION | _gentle(_SPEECH_CONNECTOR)


def _plan(
    steps: int,
    mixture: Mapping[str, float],
    learns: Mapping[str, float],
    *,
    lr: float,
    rows_per_step: int = 2,
) -> Plan:
    return Plan(
        steps=steps,
        tokens_per_step=rows_per_step * ROW_LENGTH,
        row_length=ROW_LENGTH,
        rows_per_forward=max(rows_per_step // 4, min(rows_per_step // 2, 4)),
        learns=learns,
        mixture=mixture,
        leave_out_long=True,
        lr=lr,
        warmup_steps=min(20, steps // 4),
    )


def _stage(
    caption: str,
    plan: Plan,
    model_of: Callable[[Path], OmniModel],
    *,
    aligns: Encoder | None = None,
    finish: Callable[[OmniModel, Path], None] | None = None,
) -> Stage[Plan]:
    def material(plan: Plan, runs: Path) -> Material:
        model = model_of(runs)
        sets = [name for name in plan.mixture if name not in (_LETTERS, _DICTATION)]
        sources: dict[str, SampleSource] = {**_sets(model, sets, "train")}
        if _DICTATION in plan.mixture:
            sources[_DICTATION] = _dictation(model)
            sets.append(_DICTATED)
        validation = _sets(model, dict.fromkeys(sets), "validation")
        objective: Objective = forward_loss
        if aligns is not None:
            objective = WordAlignment()
            all_sets = (*sources.values(), *validation.values())
            words = _words_of(model, aligns)
            known = words.token_ids.tolist() if _has_former(runs) else ()
            let_speak(words, all_sets, model.config.special_tokens, known=known)
        if _LETTERS in plan.mixture:
            sources[_LETTERS] = _letters(model)
        _keep_precise(model, plan.learns)
        return Material(model=model, sources=sources, validation=validation, objective=objective)

    return Stage(caption=caption, plan=plan, material=material, finish=finish)


def _letters(model: OmniModel) -> LetterSamples:
    assert model.vision is not None
    texts = WrittenTexts({name: fetch(part(name)) for name in (*PARTS, FURTHER_FONTS)})
    return LetterSamples(texts, model.vision, _vocabulary(model), model.config)


def _dictation(model: OmniModel) -> DictationSamples:
    spoken = _sets(model, [_DICTATED], "train")[_DICTATED]
    return DictationSamples(spoken, _vocabulary(model), model.config)


def _vocabulary(model: OmniModel) -> Vocabulary:
    return Vocabulary.from_directory(base_directory(), model.config.special_tokens)


def _words_of(model: OmniModel, encoder: Encoder) -> SoftWords:
    words = model.get_submodule(f"{encoder}.words")
    assert isinstance(words, SoftWords)  # mini sees and hears in words
    return words


def _write_words(model: OmniModel, encoder: Encoder, own: Path) -> None:
    """Beside what an alignment learned: which words its encoder says since."""
    spoken = _words_of(model, encoder).spoken.detach().float()
    save_file({f"{encoder}.words.spoken": spoken}, own / _WORDS_NAME)


def _sets(model: OmniModel, names: Iterable[str], split: str) -> dict[str, PreparedSet]:
    vocabulary = _vocabulary(model)
    folder = prepared_folder(cache_directory() / "prepared", model, vocabulary)
    data = cache_directory() / "data" / "mini"
    found = {name: read_manifest(data / name / f"{split}.jsonl") for name in names}
    # A set made for training alone has nothing to validate on.
    manifests = {name: manifest for name, manifest in found.items() if len(manifest)}
    prepared = prepare(
        {f"{name}-{split}": manifest for name, manifest in manifests.items()},
        folder,
        model,
        vocabulary,
        on_progress=PreparationConsole().show,
    )
    return {name: prepared[f"{name}-{split}"] for name in manifests}


def _keep_precise(model: OmniModel, learns: Mapping[str, float]) -> None:
    """What learns is float32 beside a bf16 core: small steps would be rounded away."""
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in learns):
            parameter.data = parameter.data.float()


def _dense(runs: Path) -> OmniModel:
    """The parts, with connectors and attention of a former run if there is one."""
    former = _former(runs)
    model = load_model(base_directory(), dtype=product_dtype("cpu"))
    for name, parameter in model.named_parameters():
        if name in former and (not name.startswith("core.") or ".attention." in name):
            parameter.data = _fitting(name, former[name], parameter).to(parameter.dtype)
    return model


def _former(runs: Path) -> dict[str, Tensor]:
    """What an earlier run exported, if it lies here: this run goes on from its experts too."""
    return read_packed(runs / _FORMER_NAME) if _has_former(runs) else {}


def _fitting(name: str, value: Tensor, parameter: Tensor) -> Tensor:
    """What a former run exported, if it is of this model's shape.

    Raises:
        CheckpointError: it is not.
    """
    if value.shape != parameter.shape:
        raise CheckpointError(
            f"{_FORMER_NAME}: {name} is {list(value.shape)}, this model's {list(parameter.shape)}; "
            "it was exported of a model with other settings. Take it away, or one that fits"
        )
    return value


def _has_former(runs: Path) -> bool:
    return (runs / _FORMER_NAME).exists()


def _connected(runs: Path, *stages: str) -> OmniModel:
    """The dense model with its aligned connectors, as stages taught that of speech further.

    What a former run aligned need not be aligned again.
    """
    model = _dense(runs)
    for stage in ("pictures", "words"):
        if _has_former(runs) and not _has_run(runs, stage):
            continue
        apply_trained(model, runs / stage)
        apply_trained(model, runs / stage, file_name=_WORDS_NAME)
    for stage in stages:
        apply_trained(model, runs / stage, only=[*_SPEECH_CONNECTOR])
    return model


def _specialist(runs: Path, expert: int, *stages: str) -> OmniModel:
    """The connected model with a delta."""
    dense = _connected(runs, *stages)
    former = _former(runs)
    model = with_deltas(dense, specialist_moe(dense.config.core.ffn_width, DELTA_RANK))
    for name, parameter in model.named_parameters():
        if ".deltas.routed." in name and name in former:
            parameter.data = _fitting(name, former[name][expert, None], parameter).clone()
    return model


def _upcycled(runs: Path) -> OmniModel:
    """The specialists as one mixture; its routers know nothing yet."""
    model = with_deltas(_connected(runs, "speech"), mini_moe())
    for expert, stage in SPECIALISTS.items():
        take_expert(model, expert, trained_tensors(runs / stage))
    return model


def _mixture(runs: Path) -> OmniModel:
    """The specialists as one mixture, its routers aimed at the modalities."""
    model = _upcycled(runs)
    teachings = {
        expert: Teaching(
            _specialist_after(runs, expert, stage),
            list(_sets(model, _TAUGHT_BY[stage], "train").values()),
        )
        for expert, stage in SPECIALISTS.items()
    }
    teachings[len(SPECIALISTS)] = Teaching(
        _connected(runs, "speech"), list(_sets(model, TEXT, "train").values())
    )
    aim_at_modalities(model, teachings)
    return model


def _specialist_after(runs: Path, expert: int, stage: str) -> OmniModel:
    model = _specialist(runs, expert, "speech")
    apply_trained(model, runs / stage)
    return model


def _trained_mixture(runs: Path, *stages: str) -> OmniModel:
    """The mixture after routing, or as a former run left it, and after these stages."""
    if _has_former(runs) and not _has_run(runs, "routing"):
        model = _former_mixture(runs)
    else:
        model = _upcycled(runs)
        apply_trained(model, runs / "routing")
    for stage in stages:
        apply_trained(model, runs / stage)
    return model


def _former_mixture(runs: Path) -> OmniModel:
    model = with_deltas(_connected(runs), mini_moe())
    former = _former(runs)
    for name, parameter in model.named_parameters():
        if ".ffn." in name and name in former:
            parameter.data = _fitting(name, former[name], parameter).clone()
    return model


def _has_run(runs: Path, stage: str) -> bool:
    return (runs / stage / TRAINED_NAME).exists()
