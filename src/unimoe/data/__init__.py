"""Data sets: one sample format, mixtures by token budget, and the builders of the mini sets."""

from unimoe.data.card import DataCard
from unimoe.data.manifest import Manifest, read_manifest, write_manifest
from unimoe.data.mixture import Draw, Mixture
from unimoe.data.packing import PackedRows, plan_rows
from unimoe.data.sample import OmniSample, Turn
from unimoe.data.splits import SPLITS, Split, SplitRatios, split_of, unit_hash
from unimoe.data.survey import Survey, lengths_by_task, survey_samples
from unimoe.data.writer import DatasetWriter

__all__ = [
    "SPLITS",
    "DataCard",
    "DatasetWriter",
    "Draw",
    "Manifest",
    "Mixture",
    "OmniSample",
    "PackedRows",
    "Split",
    "SplitRatios",
    "Survey",
    "Turn",
    "lengths_by_task",
    "plan_rows",
    "read_manifest",
    "split_of",
    "survey_samples",
    "unit_hash",
    "write_manifest",
]
