"""The language-centric model: build it, run it, load and save it; `upcycle` in its module."""

from unimoe.model.checkpoint import read_config
from unimoe.model.core import CoreOutput, LanguageCore
from unimoe.model.inspect import Inspection, describe, render
from unimoe.model.loss import OmniLoss
from unimoe.model.omni import OmniModel, OmniOutput
from unimoe.model.slots import TensorReport
from unimoe.model.weights import convert, load_model, save_model, tensor_report

__all__ = [
    "CoreOutput",
    "Inspection",
    "LanguageCore",
    "OmniLoss",
    "OmniModel",
    "OmniOutput",
    "TensorReport",
    "convert",
    "describe",
    "load_model",
    "read_config",
    "render",
    "save_model",
    "tensor_report",
]
