"""The tiny model: every part of the big one at toy size, random, made in a second.

In:  a directory and a seed.  Out: a complete checkpoint there, the same bytes for the same seed.
It answers noise; it is for tests, for trying commands, and for reading the code in a debugger.
"""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from unimoe.checkpoint.weights import save_model
from unimoe.config import (
    AudioConfig,
    CoreConfig,
    MoEConfig,
    OmniConfig,
    RouterConfig,
    RoutingRule,
    SpecialTokens,
    VideoConfig,
    VisionConfig,
)
from unimoe.model.omni import OmniModel

VOCAB_SIZE = 480
SPECIAL_TEXTS = {
    "pad": "<|endoftext|>",
    "end_of_turn": "<|im_end|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
    "image_pad": "<|image_pad|>",
    "video_pad": "<|video_pad|>",
    "audio_start": "<|audio_start|>",
    "audio_end": "<|audio_end|>",
    "audio_pad": "<|audio_pad|>",
    "speech_start": "<|speech_start|>",
    "speech_end": "<|speech_end|>",
    "speech_prompt": "<|speech_prompt|>",
    "speech_split": "<|speech_split|>",
}
"""Control tokens by the name of their field in `SpecialTokens`."""
_START_OF_TURN = "<|im_start|>"
_DRAWING = ("[TASK]", "[IMG]")

CHAT_TEMPLATE = """\
{%- if messages[0].role != "system" -%}
<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
"""ChatML, as the Qwen family writes it."""

# What the byte pairs are learned from: words of prompts and answers, so that prompts stay short.
_TRAINING_TEXT = """
You are a helpful assistant. system user assistant
Describe the picture. Describe the image in one sentence. What do you see in this picture?
What do you hear in this recording? Is there speech or music? What happens in the video?
How many people are there? What colour is the car? Who is speaking, and what is being said?
The picture shows a red square on a blue background. The sound is a single clear tone.
In the video a ball moves from the left to the right while somebody is talking.
The answer is yes. The answer is no. I do not know. There are two, three or four of them.
Tell me more about it, please. Thank you, that was very helpful. Good morning, how are you?
"""
# Letters, single digits, punctuation and spaces apart, as in the Qwen tokenizers.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
)


def tiny_config(*, rule: RoutingRule = "paper") -> OmniConfig:
    """Three layers of width 64; tiles of 56 pixels, sound clips of 3 seconds.

    Args:
        rule: of routing and positions; a `released` tiny model can be converted to that dialect.
    """
    first_special = VOCAB_SIZE - len(SPECIAL_TEXTS)
    return OmniConfig(
        core=CoreConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=64,
            num_layers=3,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            ffn_width=128,
            rope_sections=(2, 3, 3),
            max_positions=4096,
            moe=MoEConfig(router=RouterConfig(rule=rule), routed_width=128, shared_width=16),
        ),
        vision=VisionConfig(
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            ffn_width=64,
            image_side=56,
            patch_side=14,
            pool_side=2,
        ),
        audio=AudioConfig(
            hidden_size=32,
            encoder_layers=2,
            decoder_layers=2,
            num_heads=2,
            ffn_width=64,
            num_mel_bins=80,
            max_source_positions=150,
            max_target_positions=20,
            vocab_size=64,
            queries_per_clip=20,
            max_clips=40,
        ),
        video=VideoConfig(frame_side=56),
        position_rule=rule,
        special_tokens=SpecialTokens(
            **{name: first_special + place for place, name in enumerate(SPECIAL_TEXTS)}
        ),
    )


def build_tiny(directory: Path | str, *, seed: int = 0, rule: RoutingRule = "paper") -> None:
    """Write the tiny checkpoint: configuration, random weights, tokenizer, template.

    Raises:
        CheckpointError: the directory already holds a checkpoint.
    """
    directory = Path(directory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OmniModel(tiny_config(rule=rule))
        _enliven(model)
    save_model(model, directory)
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, "utf-8")
    tiny_tokenizer().save(str(directory / "tokenizer.json"))


@torch.no_grad()
def _enliven(model: OmniModel) -> None:
    """Matrices drawn so wide that every token of a prompt has its say in the answer.

    The usual 0.02 is for wide models. At width 64 all routings would be alike, and an answer would
    repeat one token: what layers add must outweigh the embedding of the last token.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and ".tower." not in name and ".qformer.decoder." not in name:
            gain = 2.0 if ".attention." in name or ".ffn.routed" in name else 1.0
            parameter.normal_(0.0, gain * parameter.shape[-1] ** -0.5)


def tiny_tokenizer() -> Tokenizer:
    """Byte-level pairs of a page of English, then the control tokens; any text can be encoded."""
    control_texts = [_START_OF_TURN, *_DRAWING, *SPECIAL_TEXTS.values()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(control_texts),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TRAINING_TEXT.splitlines(), trainer)
    tokenizer.add_special_tokens(control_texts)
    return tokenizer
