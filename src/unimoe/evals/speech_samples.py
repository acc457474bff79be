"""A handful of sounds to listen to, and their spectra side by side.

    original-VOICE.flac   a recording of the test split
    codec-VOICE.flac      the same through the codec and back
    spoken-VOICE.flac     the same sentence, said by the model
    speech.png            all of them

In:  a `Speaker`, the folder of a set of sentences read aloud.  Out: these files.
"""

from collections.abc import Mapping
from pathlib import Path

from unimoe.data.manifest import read_manifest
from unimoe.data.sample import OmniSample
from unimoe.data.splits import unit_hash
from unimoe.errors import DataError
from unimoe.evals.readers import Reader, Recorded, Resynthesis, Spoken
from unimoe.evals.spectra import draw_spectra
from unimoe.heads.speaker import Speaker
from unimoe.media.audio import Waveform
from unimoe.media.encode import encode_audio

_WORDS = range(7, 11)
"""Of the sentence: two to four seconds."""


def write_speech_samples(
    speaker: Speaker, voices: Mapping[str, str], data: Path, folder: Path
) -> list[Path]:
    """Write the samples of every voice; returns their paths.

    Args:
        speaker: in evaluation mode.
        voices: who reads in the data -> the speaker's name of that voice.
        data: folder of the data sets.
        folder: of the files.

    Raises:
        DataError: the set is missing, or has no sentence of middling length by some voice.
    """
    manifest = read_manifest(data / "read_aloud" / "test.jsonl")
    readers: dict[str, Reader] = {
        "original": Recorded(),
        "codec": Resynthesis(speaker.codec),
        "spoken": Spoken(speaker, voices),
    }
    sounds: dict[str, Waveform] = {}
    for name in voices:
        sample = _sample(list(manifest), name)
        for kind, reader in readers.items():
            sounds[f"{kind}-{name}"] = reader.read(sample, manifest.folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.flac" for name in sounds]
    for path, sound in zip(paths, sounds.values(), strict=True):
        rate = sound.sample_rate_hz
        path.write_bytes(encode_audio((sound.samples.clip(-1, 1), rate), sample_rate_hz=rate))
    picture = folder / "speech.png"
    draw_spectra(sounds, picture)
    return [*paths, picture]


def _sample(samples: list[OmniSample], voice: str) -> OmniSample:
    """The first by hash; of the sentence alone, so that all voices say the same one."""
    fitting = [
        sample
        for sample in samples
        if sample.traits["voice"] == voice and len(sample.answers[0].split()) in _WORDS
    ]
    if not fitting:
        raise DataError(
            f"no test sentence of {_WORDS.start} to {_WORDS.stop - 1} words by {voice!r}; build "
            "the data set read_aloud anew"
        )
    return min(fitting, key=lambda sample: unit_hash(sample.answers[0]))
