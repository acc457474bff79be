"""Directories of weights: read, check, load, save, convert, inspect."""

from unimoe.checkpoint.directory import read_config
from unimoe.checkpoint.inspect import Inspection, describe, render
from unimoe.checkpoint.slots import TensorReport
from unimoe.checkpoint.weights import convert, load_model, save_model, tensor_report

__all__ = [
    "Inspection",
    "TensorReport",
    "convert",
    "describe",
    "load_model",
    "read_config",
    "render",
    "save_model",
    "tensor_report",
]
