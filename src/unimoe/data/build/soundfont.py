"""Instruments of a SoundFont 2 file, played note by note.

In:  an .sf2 file: recordings of notes, and for each instrument which recording serves which keys.
Out: float32 [samples] at 16 kHz.
What is played: the recording nearest to the key, moved to its pitch, looped while the note is held,
with attack and release. Filters, vibrato, chorus and panning are left out.
Source: SoundFont Technical Specification 2.01, chapters 5 to 8.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

from unimoe.config import AUDIO_RATE_HZ
from unimoe.errors import DataError

Samples = Float32[np.ndarray, "_samples"]

# Numbers of the generators that are read (chapter 8.1.2).
_START_OFFSET, _END_OFFSET, _LOOP_START_OFFSET, _LOOP_END_OFFSET = 0, 1, 2, 3
_ATTACK, _RELEASE, _INSTRUMENT, _KEY_RANGE, _VELOCITY_RANGE = 34, 38, 41, 43, 44
_ATTENUATION, _COARSE_TUNE, _FINE_TUNE, _SAMPLE, _LOOPS, _SCALE, _ROOT_KEY = (
    48, 51, 52, 53, 54, 56, 58,
)  # fmt: skip
_DRUM_BANK = 128
_VELOCITY = 100
_MIN_ATTACK_SECONDS, _MIN_RELEASE_SECONDS, _MAX_RELEASE_SECONDS = 0.003, 0.05, 0.6

Generators = dict[int, int]


class Note(NamedTuple):
    """A key that is held."""

    key: int
    """MIDI number; 60 is the middle C."""
    start_seconds: float
    held_seconds: float


class _Recording(NamedTuple):
    start: int
    end: int
    loop_start: int
    loop_end: int
    rate_hz: int
    root_key: int
    correction_cents: int


class SoundFont:
    """An opened file.

    Raises:
        DataError: it is no SoundFont 2 file.
    """

    def __init__(self, path: Path) -> None:
        chunks = _chunks(path)
        try:
            self._waves: Int16[np.ndarray, points] = np.frombuffer(chunks["smpl"], "<i2")
            self._presets = _presets(chunks["phdr"])
            self._preset_zones = _zones(chunks["pbag"], chunks["pgen"])
            self._instruments = [
                struct.unpack_from("<H", chunks["inst"], at + 20)[0]
                for at in range(0, len(chunks["inst"]), 22)
            ]
            self._instrument_zones = _zones(chunks["ibag"], chunks["igen"])
            self._recordings = _recordings(chunks["shdr"])
        except (KeyError, struct.error) as error:
            raise DataError(f"{path}: no whole SoundFont 2 file ({error})") from error

    def play(self, program: int, notes: Sequence[Note], *, is_drum: bool = False) -> Samples:
        """Notes of one instrument, mixed, peak 0.7.

        Args:
            program: MIDI number of the instrument, from 0.
            notes: in any order.
            is_drum: a drum kit, where every key is another drum.

        Raises:
            DataError: the file has no such instrument, or nothing for a key.
        """
        end = max(note.start_seconds + note.held_seconds for note in notes)
        mixed = np.zeros(round((end + _MAX_RELEASE_SECONDS) * AUDIO_RATE_HZ) + 1, np.float32)
        for note in notes:
            start = round(note.start_seconds * AUDIO_RATE_HZ)
            for zone in self._zones_of(_DRUM_BANK if is_drum else 0, program, note.key):
                sound = self._tone(zone, note)[: len(mixed) - start]
                mixed[start : start + len(sound)] += sound
        return mixed * np.float32(0.7 / max(float(np.abs(mixed).max()), 1e-6))

    def _zones_of(self, bank: int, program: int, key: int) -> list[Generators]:
        """What sounds for a key: zones of the instruments of a preset."""
        if (bank, program) not in self._presets:
            raise DataError(f"program {program} of bank {bank} is not in the SoundFont")
        found = []
        first, last = self._presets[bank, program]
        for outer in _global_first(self._preset_zones[first:last], _INSTRUMENT):
            if not _is_in(outer, key):
                continue
            number = outer[_INSTRUMENT]
            bags = self._instruments[number], self._instruments[number + 1]
            for zone in _global_first(self._instrument_zones[bags[0] : bags[1]], _SAMPLE):
                if _is_in(zone, key):
                    found.append(zone)
        if not found:
            raise DataError(f"program {program} of bank {bank} has no sound for key {key}")
        return found

    def _tone(self, zone: Generators, note: Note) -> Samples:
        recording = self._recordings[zone[_SAMPLE]]
        release = float(np.clip(_seconds(zone.get(_RELEASE, -12000)), 0, _MAX_RELEASE_SECONDS))
        release = max(release, _MIN_RELEASE_SECONDS)
        num_points = round((note.held_seconds + release) * AUDIO_RATE_HZ)
        root = zone.get(_ROOT_KEY, -1)
        root = recording.root_key if root < 0 else root
        cents = (
            (note.key - root) * zone.get(_SCALE, 100)
            + 100 * zone.get(_COARSE_TUNE, 0)
            + zone.get(_FINE_TUNE, 0)
            + recording.correction_cents
        )
        step = recording.rate_hz / AUDIO_RATE_HZ * 2 ** (cents / 1200)
        places = recording.start + zone.get(_START_OFFSET, 0) + np.arange(num_points) * step
        loop_start = recording.loop_start + zone.get(_LOOP_START_OFFSET, 0)
        loop_end = recording.loop_end + zone.get(_LOOP_END_OFFSET, 0)
        if zone.get(_LOOPS, 0) in (1, 3) and loop_end > loop_start:
            beyond = places >= loop_end
            places[beyond] = loop_start + (places[beyond] - loop_start) % (loop_end - loop_start)
        last = recording.end + zone.get(_END_OFFSET, 0) - 2
        is_over = places >= last
        whole = np.minimum(places, last).astype(np.int64)
        part = (places - whole).astype(np.float32)
        tone = self._waves[whole] * (1 - part) + self._waves[whole + 1] * part
        tone[is_over] = 0.0
        gain = 10 ** (-zone.get(_ATTENUATION, 0) / 10 / 20)
        shaped: Samples = tone.astype(np.float32) * self._envelope(zone, note, release)
        return shaped * np.float32(gain / 32768)

    def _envelope(self, zone: Generators, note: Note, release: float) -> Samples:
        times = np.arange(round((note.held_seconds + release) * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
        attack = max(_seconds(zone.get(_ATTACK, -12000)), _MIN_ATTACK_SECONDS)
        rise = np.clip(times / min(attack, note.held_seconds), 0, 1)
        fall = np.clip(1 - (times - note.held_seconds) / release, 0, 1)
        return (rise * fall**2).astype(np.float32)


def _seconds(timecents: int) -> float:
    return float(2 ** (timecents / 1200))


def _is_in(zone: Generators, key: int) -> bool:
    low, high = _range(zone.get(_KEY_RANGE, 127 << 8))
    softest, loudest = _range(zone.get(_VELOCITY_RANGE, 127 << 8))
    return low <= key <= high and softest <= _VELOCITY <= loudest


def _range(amount: int) -> tuple[int, int]:
    return amount & 0xFF, amount >> 8 & 0xFF


def _global_first(zones: Sequence[Generators], needed: int) -> list[Generators]:
    """Zones with what the first one, if it names nothing to play, says for all."""
    if not zones:
        return []
    shared = {} if needed in zones[0] else zones[0]
    return [{**shared, **zone} for zone in zones if needed in zone]


def _chunks(path: Path) -> dict[str, bytes]:
    """Innermost chunks of a RIFF file by name."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise DataError(f"{path}: no SoundFont 2 file")
    found: dict[str, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"LIST":
            at += 12  # into the list: its members follow
            continue
        found[name.decode("latin-1")] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return found


def _presets(data: bytes) -> dict[tuple[int, int], tuple[int, int]]:
    """First and last zone by bank and program."""
    rows = [struct.unpack_from("<HHH", data, at + 20) for at in range(0, len(data), 38)]
    return {
        (bank, program): (first, after)
        for (program, bank, first), (_, _, after) in itertools.pairwise(rows)
    }


def _zones(bags: bytes, generators: bytes) -> list[Generators]:
    starts = [struct.unpack_from("<H", bags, at)[0] for at in range(0, len(bags), 4)]
    pairs = [_generator(generators, at) for at in range(0, len(generators), 4)]
    return [dict(pairs[start:end]) for start, end in itertools.pairwise(starts)]


def _generator(data: bytes, at: int) -> tuple[int, int]:
    kind, amount = struct.unpack_from("<Hh", data, at)
    unsigned = (_KEY_RANGE, _VELOCITY_RANGE, _INSTRUMENT, _SAMPLE, _LOOPS)
    return kind, amount & 0xFFFF if kind in unsigned else amount


def _recordings(data: bytes) -> list[_Recording]:
    return [
        _Recording(*struct.unpack_from("<IIIIIBb", data, at + 20))
        for at in range(0, len(data) - 46, 46)
    ]
