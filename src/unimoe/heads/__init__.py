"""Heads: hidden states of the language core to media, speech codes and image latents."""

from unimoe.heads.codec import Codec
from unimoe.heads.codec_weights import load_codec
from unimoe.heads.image_weights import load_task_dit
from unimoe.heads.moe_tts import MoETTS
from unimoe.heads.speech_rows import SpeechBatch, SpeechExample, collate_speech
from unimoe.heads.talker_weights import load_talker
from unimoe.heads.task_dit import TaskDiT
from unimoe.heads.write_codes import CodeStep, write_codes

__all__ = [
    "CodeStep",
    "Codec",
    "MoETTS",
    "SpeechBatch",
    "SpeechExample",
    "TaskDiT",
    "collate_speech",
    "load_codec",
    "load_talker",
    "load_task_dit",
    "write_codes",
]
