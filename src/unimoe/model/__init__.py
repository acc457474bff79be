"""The language-centric model: core, encoders in place, losses; `upcycle` in its module."""

from unimoe.model.core import CoreOutput, LanguageCore
from unimoe.model.loss import OmniLoss
from unimoe.model.omni import OmniModel, OmniOutput

__all__ = ["CoreOutput", "LanguageCore", "OmniLoss", "OmniModel", "OmniOutput"]
