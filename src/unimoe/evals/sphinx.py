"""PocketSphinx: an ear of no kin to Whisper, so the first judge of what mini says.

In:  recordings.  Out: transcripts in small letters, without marks.
Hidden Markov models and a language model of word triples, of its own dictionary: it knows no word
that is not in there. Every recording is heard by itself, whatever came before.
Source: pocketsphinx 5.1.1, its US English model, the part pocketsphinx (docs/sources.md#evals).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unimoe.errors import RequestError
from unimoe.media.audio import AudioSource, load_audio
from unimoe.parts import fetch, part

_MODEL = "pocketsphinx/model/en-us"


class Sphinx:
    """Transcribes English.

    Args:
        folder: of the part; None: fetched.

    Raises:
        RequestError: pocketsphinx is not installed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise RequestError(
                "speech is judged by pocketsphinx: pip install 'unimoe[eval]'"
            ) from error
        root = (folder or fetch(part("pocketsphinx"))) / _MODEL
        self._decoder = Decoder(
            hmm=str(root / "en-us"),
            lm=str(root / "en-us.lm.bin"),
            dict=str(root / "cmudict-en-us.dict"),
            loglevel="FATAL",
        )

    def transcribe(self, sounds: Sequence[AudioSource]) -> list[str]:
        """What is said in each recording; "" where it makes out no word."""
        return [self._transcript(sound) for sound in sounds]

    def _transcript(self, sound: AudioSource) -> str:
        samples = load_audio(sound).samples
        pcm = (samples.clip(-1, 1) * np.iinfo(np.int16).max).astype("<i2").tobytes()
        self._decoder.start_utt()
        # As a whole: its loudness is then levelled by itself, not by what was heard before.
        self._decoder.process_raw(pcm, no_search=False, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return "" if found is None else str(found.hypstr)
