"""The speech of a small random speaker, measured as a trained one is."""

import json

import pytest

from tests.evals.made_speech import VOICES, ConstantEar, listeners, made_speech
from tests.heads.made_speakers import small_speaker
from unimoe.errors import RequestError
from unimoe.evals import speech
from unimoe.evals.judges import Judges
from unimoe.evals.readers import Recorded
from unimoe.evals.records import EvalFolder
from unimoe.evals.report import write_report
from unimoe.evals.speech import MEASURES, codes_in_use, evaluate_speech
from unimoe.evals.suite import EvalOptions, Suite
from unimoe.evals.task import Task
from unimoe.evals.tasks.mini import MINI
from unimoe.media.audio import load_audio
from unimoe.recipes.mini_speech import VOICES as VOICES_OF_MINI


def task(name, *voices):
    return Task(
        name=name, title=name, dataset="read_aloud", judge="wer", traits={"voice": voices}, most=3
    )


SUITE = Suite(
    name="speech",
    tasks=(),
    speech=(
        task("codec", "ann"),
        task("codec_others", "bob"),
        task("read_aloud", "ann"),
        task("read_aloud_others", "bob"),
        task("long_speech", "ann"),
    ),
    speech_measures=tuple(MEASURES),
    voices=VOICES,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made_speech(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def speaker():
    return small_speaker()


@pytest.fixture(autouse=True)
def without_programs(monkeypatch):
    monkeypatch.setattr(speech, "Codec2", Recorded)
    monkeypatch.setattr(speech, "Espeak", lambda kept: Recorded())


@pytest.fixture
def folder(tmp_path):
    folder = EvalFolder(tmp_path / "out")
    folder.begin(
        model={"name": "ann", "sha256": "0" * 64}, options={}, about={"command": "", "machine": {}}
    )
    return folder


def measure(speaker, data, folder, ear, *names):
    options = EvalOptions(data=data, tasks=names)
    evaluate_speech(speaker, SUITE, options, folder, Judges({}), listeners=listeners(ear))


def test_the_suite_of_mini_has_every_measure_and_their_tasks():
    assert set(MINI.speech_measures) == set(MEASURES)
    assert MINI.voices == VOICES_OF_MINI
    assert {each.name for each in MINI.speech} == {each.name for each in SUITE.speech}


def test_a_codec_is_heard_beside_its_recordings(speaker, data, folder):
    measure(speaker, data, folder, ConstantEar(), "codec")
    report = write_report(folder, SUITE)
    lost, by_second, in_use, distance, quality = folder.result("codec")
    # the ear hears the same in all, so nothing is lost
    assert lost["measured"]["value"] == by_second["measured"]["value"] == 0.0
    assert 0 < in_use["measured"]["value"] <= 1
    assert distance["measured"]["value"] > 1
    assert distance["instead"]["codec2"] < 1e-3  # what 16 bits lose
    assert quality["instead"] == {"recording": 3.0, "codec2": 3.0}
    assert "| codec (WER) | 3 |" in report
    assert "recording-whisper" in report
    assert "≤ 6.0 %: reached" in report
    scores = json.loads((folder.path / "scores.json").read_text())
    assert scores["figures"].keys() == {"codec"}


def test_what_was_said_is_kept_and_heard_by_both_ears(speaker, data, folder):
    ear = ConstantEar()
    measure(speaker, data, folder, ear, "read_aloud")
    assert ear.num_heard == 2 * 3 * (3 + 3)  # ears, readers, sentences
    kept = sorted((folder.path / "sounds/spoken").glob("*.flac"))
    assert len(kept) == 6
    before = [path.stat().st_mtime_ns for path in kept]
    measure(speaker, data, folder, ear, "read_aloud", "voice_identity")
    assert ear.num_heard == 2 * 3 * (3 + 3)
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_a_voice_is_compared_with_recordings_of_all(speaker, data, folder):
    measure(speaker, data, folder, ConstantEar(), "voice_identity")
    own, nearest = folder.result("voice_identity")
    assert own["measured"]["value"] == pytest.approx(1.0)
    assert own["instead"]["to the others'"] == pytest.approx(1.0)
    assert nearest["measured"]["value"] == 0.5  # a tie goes to the first voice


def test_a_long_text_is_set_against_its_sentences(speaker, data, folder):
    measure(speaker, data, folder, ConstantEar(), "long_speech")
    (excess,) = folder.result("long_speech")
    in_row = folder.read("long_speech").items
    single = folder.read("long_speech.single").items
    assert (len(in_row), len(single)) == (1, 3)
    assert in_row[0].expected[0] == " ".join(item.expected[0] for item in single)
    rates = [
        sum(item.errors for item in items) / sum(item.units for item in items)
        for items in (in_row, single)
    ]
    assert excess["measured"]["value"] == pytest.approx(rates[0] - rates[1])


def test_speed_tells_work_a_second_and_what_a_late_code_costs(speaker, data, folder):
    measure(speaker, data, folder, ConstantEar(), "speech_speed")
    work, first, late = folder.result("speech_speed")
    assert work["measured"]["value"] > 0
    assert first["measured"]["value"] > 0
    assert 0.2 < late["measured"]["value"] < 5


def test_another_speaker_needs_another_folder(speaker, data, folder):
    measure(speaker, data, folder, ConstantEar(), "voice_identity")
    with pytest.raises(RequestError, match="another speaker"):
        measure(small_speaker(seed=1), data, folder, ConstantEar(), "voice_identity")


def test_codes_in_use_are_those_of_the_sounds(speaker, data):
    sample = json.loads((data / "read_aloud/test.jsonl").read_text().splitlines()[0])
    sound = load_audio(data / "read_aloud" / sample["audios"][0], sample_rate_hz=24_000)
    used = codes_in_use(speaker.codec, iter([sound, sound]))
    assert used.num_items == 2
    assert (used.value * 32) in range(1, 25)  # 0.6 s are 24 codes
