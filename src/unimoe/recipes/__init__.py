"""Runs and models as functions that need no further settings."""

from unimoe.recipes.tiny import build_tiny, tiny_config

__all__ = ["build_tiny", "tiny_config"]
