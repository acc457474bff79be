"""Data sets: one sample format, mixtures by token budget, and the builders of the mini sets."""

from unimoe.data.card import DataCard
from unimoe.data.manifest import Manifest, read_manifest, write_manifest
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import SPLITS, Split, SplitRatios, split_of, unit_hash
from unimoe.data.writer import DatasetWriter

__all__ = [
    "SPLITS",
    "DataCard",
    "DatasetWriter",
    "Manifest",
    "OmniSample",
    "Split",
    "SplitRatios",
    "Turn",
    "read_manifest",
    "split_of",
    "unit_hash",
    "write_manifest",
]
