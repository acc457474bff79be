"""Signals and text to one sequence of tokens with positions."""

from unimoe.tokens.batch import OmniBatch, collate, pack
from unimoe.tokens.labels import assistant_labels, released_labels
from unimoe.tokens.message import AudioPart, ImagePart, Message, Part, TextPart, VideoPart, message
from unimoe.tokens.positions import Positions, omni_positions
from unimoe.tokens.sequence import Sample, encode_chat
from unimoe.tokens.speech import SpeechChunk, SpeechPlan, SpeechTokens, split_speech
from unimoe.tokens.vocabulary import ChatTemplate, TextStream, Vocabulary

__all__ = [
    "AudioPart",
    "ChatTemplate",
    "ImagePart",
    "Message",
    "OmniBatch",
    "Part",
    "Positions",
    "Sample",
    "SpeechChunk",
    "SpeechPlan",
    "SpeechTokens",
    "TextPart",
    "TextStream",
    "VideoPart",
    "Vocabulary",
    "assistant_labels",
    "collate",
    "encode_chat",
    "message",
    "omni_positions",
    "pack",
    "released_labels",
    "split_speech",
]
