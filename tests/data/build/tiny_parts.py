"""Parts small enough for tests: a few words of WordNet, a short corpus, tones for voices."""

import struct
from pathlib import Path

import numpy as np

from unimoe.data.build.speech import read_recordings
from unimoe.data.build.voices import Samples, Speakers, Voice
from unimoe.media.encode import encode_audio

NOUNS = """\
  1 The licence of WordNet stands in front.
00001740 03 n 01 dog 0 000 | an animal that barks; "the dog ran to the house"; "he fed the dog"
00001741 03 n 01 fire_truck 0 000 | a truck that carries firemen; "he fed the quagga"
00001742 03 n 01 rascal 0 000 | an offensive term for a man; "he is a rude man"
"""
ADJECTIVES = """\
00002000 00 a 01 hot 0 001 ! 00002001 a 0101 | of high temperature; "the house is hot"
00002001 00 a 01 cold 0 001 ! 00002000 a 0101 | of low temperature; "the house is cold"
"""
COUNTS = "hot%3:00:01:: 1 30\ncold%3:00:01:: 1 40\n"
DIALOGUES = """\
categories:
- test
conversations:
- - What is the capital of France?
  - Paris.
- - Do you like music
  - Yes, I do.
- - Who are you?
  - A bot.
"""


def write_words(folder: Path) -> dict[str, Path]:
    """Folders like those of the parts wordnet and chatterbot."""
    wordnet = folder / "usr/share/wordnet"
    wordnet.mkdir(parents=True)
    texts = {"data.noun": NOUNS, "data.verb": "", "data.adj": ADJECTIVES, "data.adv": ""}
    for name, text in {**texts, "cntlist.rev": COUNTS}.items():
        (wordnet / name).write_text(text)
    corpus = folder / "chatterbot_corpus/data/english"
    corpus.mkdir(parents=True)
    (corpus / "test.yml").write_text(DIALOGUES)
    return {"wordnet": folder, "chatterbot": folder}


def write_recording(path: Path, hertz: float = 300.0, seconds: float = 0.4) -> None:
    """A tone, whatever the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(16000 * seconds)) / 16000
    path.write_bytes(encode_audio((0.5 * np.sin(2 * np.pi * hertz * times), 16000)))


def write_people(folder: Path, count: int) -> None:
    """The first recordings of a person."""
    for number, recording in enumerate(read_recordings()[:count]):
        file = folder / "usr/share/asterisk/sounds/en_US_f_Allison" / recording.file
        write_recording(file, 200 + 10 * number)


class Tones(Speakers):
    """Says every text as a tone of its own."""

    def __init__(self, kept: Path) -> None:
        super().__init__({}, kept)
        self.num_said = 0

    def _said(self, voice: Voice, text: str, speed: float) -> Samples:
        self.num_said += 1
        rng = np.random.default_rng(list(f"{voice.name} {text}".encode()))
        times = np.arange(round(3200 / speed)) / 16000
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * times)
        return (0.3 * tone).astype(np.float32)


def tiny_soundfont(programs: tuple[int, ...]) -> bytes:
    """One second of a looped 500 Hz wave at key 60 for all programs, at 16 kHz."""
    wave = np.round(8000 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)).astype("<i2")
    points = [
        struct.pack("<20sHHHIII", b"preset", program, 0, index, 0, 0, 0)
        for index, program in enumerate((*programs, 255))
    ]
    # A range of keys (43), then the instrument (41), the sample (53) and its loop (54).
    outer = struct.pack("<HH", 41, 0)
    inner = struct.pack("<HBBHHHH", 43, 40, 100, 54, 1, 53, 0)
    header = b"wave".ljust(20, b"\0"), 0, 16000, 8000, 8320, 16000, 60, 0, 0, 1
    chunks = {
        b"smpl": wave.tobytes(),
        b"phdr": b"".join(points),
        b"pbag": b"".join(struct.pack("<HH", i, 0) for i in range(len(programs) + 1)),
        b"pgen": outer * len(programs) + bytes(4),
        b"inst": struct.pack("<20sH20sH", b"wave", 0, b"EOI", 1),
        b"ibag": struct.pack("<HHHH", 0, 0, 3, 0),
        b"igen": inner + bytes(4),
        b"shdr": struct.pack("<20sIIIIIBbHH", *header) + bytes(46),
    }
    body = b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks.items())
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"sfbk" + body
