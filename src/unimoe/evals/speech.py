"""The speech of a model measured: its codec, its voices, long texts, speed.

    codec           recordings through the codec and back: words lost, codes in use, how it sounds
    read_aloud      sentences never trained on, said by the model; its teacher and espeak-ng beside
    voice_identity  whether each voice sounds as the one it learned from
    long_speech     the same sentences, two minutes of them in a row
    speech_speed    seconds of work a second of sound, and whether a late code costs more

In:  a `Speaker`, a set of sentences read aloud.  Out: transcripts, judged as those of recordings
are, and `Figure`s, in the folder of an evaluation. What was heard lies there too, in `sounds`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean

import torch

from unimoe.data.manifest import read_manifest
from unimoe.data.splits import unit_hash
from unimoe.errors import RequestError
from unimoe.evals.figures import Figure, Measured, excess_of, figure_json, mean_of, share_of
from unimoe.evals.judges import Judges
from unimoe.evals.listening import Listener, paragraphs
from unimoe.evals.readers import (
    Codec2,
    Espeak,
    KeptReader,
    Reader,
    Recorded,
    Resynthesis,
    Spoken,
    as_source,
)
from unimoe.evals.records import EvalFolder, ItemRecord
from unimoe.evals.run import Progress, record_name, run_task
from unimoe.evals.score import score_of
from unimoe.evals.spectra import log_mel_distance
from unimoe.evals.speech_judges import SpeechJudges
from unimoe.evals.speech_speed import measure_speed
from unimoe.evals.suite import EvalOptions, Suite, wanted_names
from unimoe.evals.task import TaskItems, load_items
from unimoe.evals.voice_prints import Print, mean_print
from unimoe.heads.mel_codec import MelCodec
from unimoe.heads.speaker import Speaker
from unimoe.media.audio import Waveform, load_audio
from unimoe.parts import cache_directory

SENTENCES_IN_A_ROW = 60
_RECORDINGS_OF_A_VOICE = 20
_CODED_SECONDS = 3600.0
_SECOND_EAR = "whisper"
_CODEC, _READ_ALOUD = ("codec", "codec_others"), ("read_aloud", "read_aloud_others")


class SpeechEval:
    """One evaluation of one speaker; its methods are what can be measured.

    Args:
        speaker: in evaluation mode.
        suite: has the tasks.
        options: where the data is, and how much of it is asked.
        folder: of the records.
        words: judges transcripts.
        listeners: make them, and judge sounds.
        progress: told about every window of items.
    """

    def __init__(
        self,
        speaker: Speaker,
        suite: Suite,
        options: EvalOptions,
        folder: EvalFolder,
        words: Judges,
        listeners: SpeechJudges,
        progress: Progress | None = None,
    ) -> None:
        self._speaker = speaker
        self._suite = suite
        self._options = options
        self._folder = folder
        self._words = words
        self._listeners = listeners
        self._progress = progress

    def codec(self) -> list[Figure]:
        """The codec by itself, beside recordings and a classical codec."""
        readers = {
            "": self._kept("codec", Resynthesis(self._speaker.codec)),
            "recording": Recorded(),
            "codec2": self._kept("codec2", Codec2()),
        }
        for name in _CODEC:
            self._listen(self._items(name), readers)
        sounds = {who: list(self._sounds(_CODEC, reader)) for who, reader in readers.items()}
        recordings = sounds["recording"]
        far = {who: _distances(sounds[who], recordings) for who in ("", "codec2")}
        return [
            self._words_lost("PocketSphinx", ""),
            self._words_lost("Whisper base", _SECOND_EAR),
            Figure(
                title=f"Codec: share of its codes in {_CODED_SECONDS / 3600:g} h of training",
                measured=codes_in_use(self._speaker.codec, self._training_sounds()),
                unit="%",
                goal=0.80,
            ),
            Figure(
                title="Codec: log-mel distance to the recording",
                measured=mean_of(far[""]),
                unit="dB",
                instead={"codec2": fmean(far["codec2"])},
            ),
            self._quality("Codec", sounds),
        ]

    def read_aloud(self) -> list[Figure]:
        """Single sentences."""
        kept = cache_directory() / "speech_clips_24_khz"
        readers = {"": self._spoken(), "recording": Recorded(), "espeak": Espeak(kept)}
        for name in _READ_ALOUD:
            self._listen(self._items(name), readers)
        sounds = {who: list(self._sounds(_READ_ALOUD, readers[who])) for who in readers}
        return [self._quality("Speech", sounds)]

    def voice_identity(self) -> list[Figure]:
        """Whether a voice is itself."""
        voices = self._prints_of_voices()
        names = [s.traits["voice"] for task in _READ_ALOUD for s in self._items(task).samples]
        alike = self._likeness(self._spoken(), voices)
        real = self._likeness(Recorded(), voices)
        own = [row[name] for row, name in zip(alike, names, strict=True)]
        others = [
            value
            for row, name in zip(alike, names, strict=True)
            for voice, value in row.items()
            if voice != name
        ]
        nearest = [max(row, key=row.__getitem__) for row in alike]
        recorded = fmean(row[name] for row, name in zip(real, names, strict=True))
        return [
            Figure(
                title="Voices: cosine to recordings of their own",
                measured=mean_of(own),
                goal=0.75,
                instead={"to the others'": fmean(others), "recording": recorded},
            ),
            Figure(
                title="Voices: nearest to their own",
                measured=share_of([a == b for a, b in zip(nearest, names, strict=True)]),
                unit="%",
            ),
        ]

    def long_speech(self) -> list[Figure]:
        """Many sentences in a row, beside each of them by itself."""
        single = self._items("long_speech")
        row = paragraphs(single, min(SENTENCES_IN_A_ROW, len(single.samples)))
        self._listen(row, {"": self._spoken(), "recording": Recorded()})
        ear = Listener(self._spoken(), self._listeners.first_ear)
        run_task(single, ear, self._words, self._folder, who="single", progress=self._progress)
        in_row, by_itself = (
            score_of(self._folder.read(record_name("long_speech", who)), "wer")
            for who in ("", "single")
        )
        return [
            Figure(
                title="Long speech: wrong words beyond those of single sentences",
                measured=Measured(in_row.value - by_itself.value, in_row.num_items),
                unit="%",
                goal=0.03,
                is_at_most=True,
            )
        ]

    def speech_speed(self) -> list[Figure]:
        """How much work speech is."""
        texts = [sample.answers[0] for sample in self._items("read_aloud").samples]
        return measure_speed(self._speaker, texts)

    def _items(self, name: str) -> TaskItems:
        options = self._options
        task = self._suite.task(name)
        return load_items(task, options.data, limit=options.limit, seed=options.seed)

    def _spoken(self) -> Reader:
        return self._kept("spoken", Spoken(self._speaker, self._suite.voices))

    def _kept(self, name: str, reader: Reader) -> Reader:
        return KeptReader(reader, self._folder.path / "sounds" / name)

    def _listen(self, items: TaskItems, readers: Mapping[str, Reader]) -> None:
        """Every reader's sounds, written down by both ears."""
        for second in ("", _SECOND_EAR):
            ear = self._listeners.second_ear if second else self._listeners.first_ear
            for reader_name, reader in readers.items():
                who = "-".join(filter(None, (reader_name, second)))
                listener = Listener(reader, ear)
                run_task(
                    items, listener, self._words, self._folder, who=who, progress=self._progress
                )

    def _sounds(self, names: tuple[str, ...], reader: Reader) -> Iterator[Waveform]:
        for items in map(self._items, names):
            for sample in items.samples:
                yield reader.read(sample, items.folder)

    def _words_lost(self, ear: str, suffix: str) -> Figure:
        ours, theirs = (
            self._records("-".join(filter(None, (who, suffix)))) for who in ("", "recording")
        )
        measured = excess_of(
            [item.errors for item in ours],
            [item.errors for item in theirs],
            [item.units for item in theirs],
        )
        return Figure(
            title=f"Codec: wrong words beyond those of the recording, {ear}",
            measured=measured,
            unit="%",
            goal=0.06,
            is_at_most=True,
        )

    def _records(self, who: str) -> list[ItemRecord]:
        return [item for name in _CODEC for item in self._folder.read(record_name(name, who)).items]

    def _quality(self, what: str, sounds: Mapping[str, list[Waveform]]) -> Figure:
        marks = {
            who: self._listeners.quality.marks([as_source(sound) for sound in each])
            for who, each in sounds.items()
        }
        others = {who: fmean(each) for who, each in marks.items() if who}
        title = f"{what}: DNSMOS, 1 to 5"
        return Figure(title=title, measured=mean_of(marks[""]), instead=others)

    def _prints_of_voices(self) -> dict[str, Print]:
        """Of training recordings, so of other sentences."""
        manifest = read_manifest(self._options.data / "read_aloud" / "train.jsonl")
        samples = sorted(manifest, key=lambda sample: unit_hash(sample.id))
        prints = {}
        for voice in self._suite.voices:
            paths = [manifest.folder / s.audios[0] for s in samples if s.traits["voice"] == voice][
                :_RECORDINGS_OF_A_VOICE
            ]
            prints[voice] = mean_print(self._listeners.prints.of(paths))
        return prints

    def _likeness(self, reader: Reader, voices: Mapping[str, Print]) -> list[dict[str, float]]:
        """Of every sentence read, the cosine to every voice."""
        sounds = self._sounds(_READ_ALOUD, reader)
        prints = self._listeners.prints.of([as_source(sound) for sound in sounds])
        return [{name: float(row @ own) for name, own in voices.items()} for row in prints]

    def _training_sounds(self) -> Iterator[Waveform]:
        """So many seconds of them, drawn by hash."""
        manifest = read_manifest(self._options.data / "read_aloud" / "train.jsonl")
        seconds = 0.0
        for sample in sorted(manifest, key=lambda sample: unit_hash(sample.id)):
            if seconds >= _CODED_SECONDS:
                return
            path = manifest.folder / sample.audios[0]
            sound = load_audio(path, sample_rate_hz=self._speaker.sample_rate_hz)
            seconds += sound.seconds
            yield sound


MEASURES: Mapping[str, Callable[[SpeechEval], list[Figure]]] = {
    "codec": SpeechEval.codec,
    "read_aloud": SpeechEval.read_aloud,
    "voice_identity": SpeechEval.voice_identity,
    "long_speech": SpeechEval.long_speech,
    "speech_speed": SpeechEval.speech_speed,
}


def evaluate_speech(
    speaker: Speaker,
    suite: Suite,
    options: EvalOptions,
    folder: EvalFolder,
    words: Judges,
    *,
    listeners: SpeechJudges | None = None,
    progress: Progress | None = None,
) -> None:
    """Measure what is wanted of a speaker, and note it in a folder that was begun.

    Raises:
        RequestError: the folder holds the speech of another speaker.
        DataError: the data set is missing.
    """
    _require_same_speaker(speaker, folder)
    own = SpeechEval(speaker, suite, options, folder, words, listeners or SpeechJudges(), progress)
    for name in wanted_names(suite, options.tasks):
        if name in MEASURES and folder.result(name) is None:
            folder.write_result(name, [figure_json(figure) for figure in MEASURES[name](own)])


@torch.no_grad()
def codes_in_use(codec: MelCodec, sounds: Iterator[Waveform]) -> Measured:
    """The share of the codebook that occurs in sounds."""
    is_used = torch.zeros(codec.config.num_codes, dtype=torch.bool)
    count = 0
    for sound in sounds:
        is_used[codec.encode(torch.from_numpy(sound.samples)[None])] = True
        count += 1
    return Measured(float(is_used.float().mean()), count)


def _distances(sounds: list[Waveform], recordings: list[Waveform]) -> list[float]:
    return [log_mel_distance(*pair) for pair in zip(sounds, recordings, strict=True)]


def _require_same_speaker(speaker: Speaker, folder: EvalFolder) -> None:
    digest = hashlib.sha256()
    for name, value in speaker.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    now = {"sha256": digest.hexdigest()}
    if folder.result("speaker") not in (None, now):
        raise RequestError(
            f"{folder.path} holds the speech of another speaker; name another --out, or remove it"
        )
    folder.write_result("speaker", now)
