"""Signals to embeddings of the language core."""

from unimoe.encoders.audio import AudioEncoder
from unimoe.encoders.vision import VisionEncoder

__all__ = ["AudioEncoder", "VisionEncoder"]
