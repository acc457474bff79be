"""Runs and models as functions that need no further settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unimoe.errors import ConfigError
from unimoe.recipes.tiny import build_tiny, tiny_config

if TYPE_CHECKING:
    from unimoe.train.stages import Stage

__all__ = ["build_tiny", "stages_of", "tiny_config"]


def stages_of(recipe: str) -> Mapping[str, Stage[Any]]:
    """The stages of a recipe, in their order.

    Raises:
        ConfigError: there is no such recipe.
    """
    if recipe == "tiny":
        from unimoe.recipes.tiny_stages import STAGES

        return STAGES
    if recipe == "mini":
        from unimoe.recipes.mini import mini_stages

        return mini_stages()
    raise ConfigError(f"no recipe is called {recipe!r}; there are 'tiny' and 'mini'")
