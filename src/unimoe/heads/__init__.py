"""Heads: what the language core says becomes media; so far speech."""

from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.speech_rows import SpeechBatch, SpeechExample, collate_speech
from unimoe.heads.talker_weights import load_talker
from unimoe.heads.write_codes import CodeStep, write_codes

__all__ = [
    "CodeStep",
    "MoETTS",
    "SpeechBatch",
    "SpeechExample",
    "collate_speech",
    "load_talker",
    "write_codes",
]
