"""From a prompt to an answer: cache, sampling, generation, chat."""

from unimoe.infer.answering import TextDelta
from unimoe.infer.engine import Generation, Step, generate
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.session import ChatAnswer, OmniInference
from unimoe.infer.speech import Speech, SpeechChunk, SpeechOptions
from unimoe.infer.usage import Usage
from unimoe.nn.cache import KVCache

__all__ = [
    "ChatAnswer",
    "Generation",
    "KVCache",
    "OmniInference",
    "SamplingOptions",
    "Speech",
    "SpeechChunk",
    "SpeechOptions",
    "Step",
    "TextDelta",
    "Usage",
    "generate",
]
