"""Readers make the sound of a sample; what an ear makes out of it is the answer."""

import subprocess

import numpy as np
import pytest

from tests.evals.made_speech import SENTENCES, VOICES, ConstantEar, made_speech
from tests.heads.made_speakers import small_speaker
from unimoe.errors import DataError
from unimoe.evals import readers
from unimoe.evals.listening import Listener, paragraphs
from unimoe.evals.readers import Codec2, KeptReader, Recorded, Resynthesis, Spoken
from unimoe.evals.task import Task, load_items
from unimoe.media.audio import Waveform

TASK = Task(
    name="said", title="Said", dataset="read_aloud", judge="wer", traits={"voice": ("ann",)}
)


@pytest.fixture
def items(tmp_path):
    return load_items(TASK, made_speech(tmp_path))


def test_an_answer_is_what_the_ear_makes_out(items):
    ear = ConstantEar("hm")
    given = Listener(Recorded(), ear).answer(items.samples, items.folder, 1)
    assert [answer.text for answer in given.answers] == ["hm"] * 4
    assert ear.num_heard == 4


def test_resynthesis_lasts_as_long_as_the_recording(items):
    sample = items.samples[0]
    given = Recorded().read(sample, items.folder)
    made = Resynthesis(small_speaker().codec).read(sample, items.folder)
    assert (len(made.samples), made.sample_rate_hz) == (len(given.samples), 24_000)
    assert not np.allclose(made.samples, given.samples)


def test_the_same_sentence_is_said_the_same_way_again(items):
    reader = Spoken(small_speaker(), VOICES)
    one, two = (reader.read(items.samples[0], items.folder) for _ in range(2))
    np.testing.assert_array_equal(one.samples, two.samples)


def test_a_paragraph_is_said_sentence_after_sentence(items):
    row = paragraphs(items, 2)
    assert len(row.samples) == 2
    assert row.sha256 != items.sha256
    first, second = items.samples[:2]
    assert row.samples[0].answers == (f"{first.answers[0]} {second.answers[0]}",)
    recorded = Recorded().read(row.samples[0], row.folder)
    assert recorded.seconds == pytest.approx(1.2)
    alone = Spoken(small_speaker(), VOICES).read(first, items.folder)
    in_row = Spoken(small_speaker(), VOICES).read(row.samples[0], items.folder)
    assert in_row.seconds > 1.5 * alone.seconds


def test_sentences_left_over_make_no_paragraph(items):
    assert [len(paragraphs(items, size).samples) for size in (1, 3, 4, 5)] == [4, 1, 1, 0]


def test_a_kept_sound_is_not_made_again(items, tmp_path):
    class Loud:
        num_read = 0

        def read(self, sample, folder):
            self.num_read += 1
            return Waveform(np.full(800, 1.5, np.float32), 8_000)

    loud = Loud()
    kept = KeptReader(loud, tmp_path / "kept")
    one, two = (kept.read(items.samples[0], items.folder) for _ in range(2))
    assert loud.num_read == 1
    assert one.sample_rate_hz == 24_000
    assert one.seconds == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(one.samples, two.samples)


def test_codec2_is_given_and_gives_16_bits_at_8_khz(items, monkeypatch, tmp_path):
    calls = []

    def run(command, **options):
        calls.append((command[0].rpartition("/")[2], len(options["input"])))
        return subprocess.CompletedProcess(command, 0, stdout=options["input"])

    monkeypatch.setattr(readers.subprocess, "run", run)
    made = Codec2(tmp_path).read(items.samples[0], items.folder)
    assert calls == [("c2enc", 9_600), ("c2dec", 9_600)]  # 0.6 s
    assert made.sample_rate_hz == 8_000
    assert 0.15 < np.abs(made.samples).max() < 0.25


def test_a_program_that_is_not_there_is_told(items, tmp_path):
    with pytest.raises(DataError, match="needs Linux"):
        Codec2(tmp_path).read(items.samples[0], items.folder)


def test_sentences_are_those_of_the_set(items):
    assert {sample.answers[0] for sample in items.samples} == set(SENTENCES)
