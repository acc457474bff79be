"""Pretrained parts: where each comes from, its sha256, its licence, and how it is read."""

from unimoe.parts.catalog import PARTS, Archive, HubFile, Part, part
from unimoe.parts.fetch import cache_directory, damaged_files, fetch, folder_of, is_fetched

__all__ = [
    "PARTS",
    "Archive",
    "HubFile",
    "Part",
    "cache_directory",
    "damaged_files",
    "fetch",
    "folder_of",
    "is_fetched",
    "part",
]
