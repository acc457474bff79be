"""Baselines: what each may know, and what it may not."""

import pytest
import torch

from tests.evals.made_data import made_data, question
from unimoe.data.sample import OmniSample, Turn
from unimoe.errors import DataError
from unimoe.evals.answer import Answer, Answers
from unimoe.evals.baselines import (
    BlindAnswerer,
    CascadeAnswerer,
    ProbeAnswerer,
    TranscriptAnswerer,
    applies,
    listening_items,
)
from unimoe.evals.task import Task, load_items
from unimoe.evals.tower_states import TowerEye, TowerStates
from unimoe.infer.session import OmniInference

COLOURS = Task(name="c", title="C", dataset="colours", judge="exact", kinds=("shown",))
WORDS = Task(name="w", title="W", dataset="words", judge="wer")


def sample(*turns, answers=("?",), **media):
    roles = ("user", "assistant") * len(turns)
    return OmniSample(
        id="s",
        conversations=tuple(Turn(role, text) for role, text in zip(roles, turns, strict=False)),
        answers=answers,
        **media,
    )


def texts(answerer, samples, folder):
    return [answer.text for answer in answerer.answer(samples, folder, 8).answers]


class Ear:
    """Hears the names of the files."""

    def transcribe(self, sounds):
        return [path.stem for path in sounds]


class Echo:
    """Says what it was asked."""

    def answer(self, samples, folder, max_new_tokens):
        return Answers([Answer(text=sample.conversations[-2].text) for sample in samples])


class PureEye:
    """Sees the number in the name of the file."""

    def features(self, images):
        rows = torch.zeros(len(images), 4)
        for row, path in enumerate(images):
            rows[row, int(path.stem) % 4] = 1
        return rows


def test_blind_guesses_the_commonest_training_answer_to_the_same_question(tmp_path):
    training = [
        sample("<image>What shape?", "circle", "What colour?", "red", images=("a",)),
        sample("<image>What shape?", "square", images=("b",)),
        sample("<image>What shape?", "square", images=("c",)),
    ]
    asked = [sample("<image>what shape?", "!", images=("d",)), sample("Who?", "!")]
    assert texts(BlindAnswerer(training), asked, tmp_path) == ["square", "square"]
    with pytest.raises(DataError, match="training split"):
        BlindAnswerer([])


def test_a_transcript_is_of_the_last_recording(tmp_path):
    asked = [sample("<audio><audio>Write.", "!", audios=("one.wav", "two.wav"))]
    assert texts(TranscriptAnswerer(Ear()), asked, tmp_path) == ["two"]


def test_a_cascade_reads_what_it_heard_and_sees_nothing(tmp_path):
    asked = [
        sample("<image><audio>", "!", images=("a.png",), audios=("who is it.wav",)),
        sample("<audio>Who speaks?", "!", audios=("hello.wav",)),
    ]
    said = texts(CascadeAnswerer(Ear(), Echo()), asked, tmp_path)
    assert said == [
        '"who is it"\nAnswer in one or two words.',
        '"hello" Who speaks?\nAnswer in one or two words.',
    ]


def test_a_probe_learns_each_question_from_training_pictures(tmp_path):
    colours = ("red", "green", "blue", "white")
    training = [question(n, colours[n % 4], images=(f"{n}.png",), task="shown") for n in range(24)]
    training += [
        sample("<image>How many?", str(n % 2), images=(f"{n}.png",), task="count")
        for n in range(24)
    ]
    probe = ProbeAnswerer(PureEye(), training, tmp_path)
    asked = [question(n, "?", images=(f"{n}.png",), task="shown") for n in (101, 102)]
    asked.append(sample("<image>How many?", "?", images=("103.png",), task="count"))
    asked.append(sample("<image>How much?", "?", images=("103.png",), task="count"))
    assert texts(probe, asked, tmp_path) == ["green", "blue", "1", "1"]
    with pytest.raises(DataError, match="one picture"):
        ProbeAnswerer(PureEye(), [sample("Hi", "!")], tmp_path)


def test_the_eye_sees_the_same_alone_and_among_others(tiny_directory, tmp_path):
    model = OmniInference(tiny_directory).model
    data = made_data(tmp_path)
    paths = sorted((data / "colours/images").glob("*.png"))
    eye = TowerEye(TowerStates(model), model.config)
    seen = eye.features(paths)
    assert seen.shape == (len(paths), 2 * model.config.vision.hidden_size)
    torch.testing.assert_close(eye.features(paths[1:2])[0], seen[1])


def test_baselines_are_asked_what_they_can_take_in(tmp_path):
    data = made_data(tmp_path)
    shown, heard = load_items(COLOURS, data), load_items(WORDS, data)
    assert [applies(who, shown) for who in ("blind", "cascade", "probe")] == [True, False, True]
    assert [applies(who, heard) for who in ("blind", "cascade", "probe")] == [False, True, False]


def test_a_cascade_may_talk_except_in_transcripts(tmp_path):
    data = made_data(tmp_path)
    shown, heard = load_items(COLOURS, data), load_items(WORDS, data)
    assert listening_items(heard) == heard
    assert listening_items(shown).task.judge == "mention"
    assert listening_items(shown).task.max_new_tokens > shown.task.max_new_tokens
