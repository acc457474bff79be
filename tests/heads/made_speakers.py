"""Small random speech heads."""

import torch

from unimoe.config import MelCodecConfig, SpeakerConfig, TalkerConfig, TimedTalkerConfig
from unimoe.heads.speaker import Speaker

SMALL_CODEC = MelCodecConfig(
    num_codes=32,
    code_width=8,
    fine_width=16,
    fine_layers=(1, 2),
    hidden_size=24,
    num_layers=(1, 2),
    num_heads=2,
    attention_reach=3,
)
SMALL_TALKER = TimedTalkerConfig(
    talker=TalkerConfig(
        text_vocab_size=40,
        text_width=16,
        num_codes=32,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        num_experts=4,
        expert_width=24,
    ),
    voices=("ann", "bob"),
)


def small_speaker(seed: int = 0) -> Speaker:
    """Of random weights, its blocks as strong as trained ones."""
    torch.manual_seed(seed)
    speaker = Speaker(SpeakerConfig(talker=SMALL_TALKER, codec=SMALL_CODEC)).eval()
    with torch.no_grad():
        speaker.codec.codebook.normal_()
        for name, parameter in speaker.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
        # every letter lasts two to three codes
        speaker.talker.duration[-1].bias.fill_(1.3)
    return speaker
