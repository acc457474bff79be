"""A session that speaks: text and speech together, and nothing of it where there is no head."""

import shutil
from collections.abc import Iterator

import pytest
from heads.made_speakers import small_speaker

from tests.infer.fake_speaker import FakeSpeaker
from unimoe.cli import main
from unimoe.demo import page, said, tour
from unimoe.errors import RequestError
from unimoe.heads.speaker import write_speaker
from unimoe.infer.answering import TextDelta
from unimoe.infer.engine import Generation, Step
from unimoe.infer.session import ChatAnswer, OmniInference
from unimoe.infer.speech import SpeechChunk, SpeechOptions
from unimoe.infer.usage import Usage

BOTH = ("text", "speech")
PLAIN = "The first one is good. The second one is better. The third one ends."


class Scripted(Generation):
    """A generation that says what it is told to."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = iter(ids)

    def __next__(self) -> Step:
        return Step((next(self._ids),), (None,))

    def close(self, reason: str = "cancelled") -> None:
        self._ids = iter(())

    def usage(self, row: int = 0) -> Usage:
        return Usage(
            prompt_tokens={"text": 1},
            new_tokens=1,
            experts_per_token=None,
            null_share=None,
            prefill_seconds=0.0,
            decode_seconds=0.0,
            finish_reason="stop",
            seed=5,
        )


@pytest.fixture(scope="module")
def tiny_session(tiny_directory) -> OmniInference:
    return OmniInference(tiny_directory)


@pytest.fixture
def session(tiny_session: OmniInference) -> Iterator[OmniInference]:
    tiny_session.speaker = FakeSpeaker()
    yield tiny_session
    tiny_session.speaker = None


@pytest.fixture
def answers(session: OmniInference, monkeypatch: pytest.MonkeyPatch):
    """Lets the model answer with the text, its control tokens as such."""

    def answers(text: str) -> None:
        tokenizer = session.vocabulary._tokenizer
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        monkeypatch.setattr("unimoe.infer.session.generate", lambda *_, **__: Scripted(ids))

    return answers


def test_an_answer_is_spoken_whole(session, answers) -> None:
    answers(PLAIN)
    answer = session.chat("?", output_form=BOTH, voice="man", pace=1.2)
    assert answer.text == PLAIN
    assert answer.speech.sample_rate_hz == 24_000
    assert answer.speech.seconds == pytest.approx(answer.usage.speech.seconds)
    assert answer.usage.speech.num_sentences == 3
    assert {(said.voice, said.pace) for said in session.speaker.said} == {("man", 1.2)}


def test_speech_comes_while_the_text_still_does(session, answers) -> None:
    answers(PLAIN + " word" * 80)
    events = list(session.stream("?", output_form=BOTH))
    kinds = [type(event) for event in events]
    assert kinds.index(SpeechChunk) < len(kinds) - 1 - kinds[::-1].index(TextDelta)
    assert kinds[-1] is Usage
    assert kinds.count(Usage) == 1


def test_text_alone_is_not_spoken(session, answers) -> None:
    answers(PLAIN)
    answer = session.chat("?")
    assert answer.speech is answer.usage.speech is None
    assert session.speaker.said == []


def test_the_model_chooses_the_voice_of_what_it_marks(session, answers) -> None:
    answers(
        "She says this: <|speech_start|>a slow man<|speech_prompt|>I am the man here."
        "<|speech_end|> Then she goes."
    )
    answer = session.chat("?", output_form=BOTH)
    assert answer.text == "She says this: I am the man here. Then she goes."
    assert [(said.text, said.voice) for said in session.speaker.said] == [
        ("She says this,", "woman"),
        ("I am the man here.", "man"),
        ("Then she goes.", "woman"),
    ]


def test_a_closed_stream_speaks_no_more(session, answers) -> None:
    answers(PLAIN)
    session.speaker.faults = {"first": ["endless"] * 9}
    events = session.stream("?", output_form=BOTH)
    while not session.speaker.said:
        next(events)
    events.close()
    assert len(session.speaker.said) == session.speaker.num_closed == 1
    assert list(events) == []


def test_a_real_answer_is_the_same_spoken_or_not(session) -> None:
    written = session.chat("Hello", max_new_tokens=30)
    spoken = session.chat("Hello", max_new_tokens=30, output_form=BOTH)
    assert isinstance(spoken, ChatAnswer)
    assert spoken.text == written.text


def test_options_of_speech_need_speech(session) -> None:
    with pytest.raises(RequestError, match="not spoken"):
        session.stream("?", voice="man")
    with pytest.raises(RequestError, match="'purple' is not understood"):
        session.stream("?", voice="purple", output_form=BOTH)
    with pytest.raises(RequestError, match="no image head"):
        session.stream("?", output_form=("speech", "image"))


def test_a_long_answer_is_refused_where_long_form_is_off(session, answers) -> None:
    answers(PLAIN)
    with pytest.raises(RequestError, match="long_form is False"):
        session.chat("?", output_form=BOTH, long_form=False)


def test_a_text_is_said_as_it_stands(session) -> None:
    speech = session.say("It costs $5.", SpeechOptions(voice="robot"))
    assert session.speaker.said[0].text == "It costs five dollars."
    assert 0.5 < speech.seconds < 3


def test_without_a_speech_head_nothing_is_said(tiny_session) -> None:
    with pytest.raises(RequestError, match="has no speech head"):
        tiny_session.say("Hello")


def test_the_commands_write_what_is_said(session, answers, monkeypatch, tmp_path, capsys) -> None:
    answers(PLAIN)
    monkeypatch.setattr("unimoe.cli.talk.load", lambda *_: session)
    out = tmp_path / "a.wav"
    assert main(["chat", "Hi", "--speak", str(out), "--voice", "man"]) == 0
    told = capsys.readouterr()
    assert told.out == PLAIN + "\n"
    assert "codes, in" in told.err
    assert out.read_bytes()[:4] == b"RIFF"
    assert main(["say", "Hello there.", str(tmp_path / "b.flac"), "--pace", "1.5"]) == 0
    assert (tmp_path / "b.flac").read_bytes()[:4] == b"fLaC"
    assert main(["chat", "Hi", "--voice", "man"]) == 2
    assert "add --speak" in capsys.readouterr().err


def test_the_tour_says_its_answers(session, answers) -> None:
    answers(PLAIN)
    first = next(tour(session))
    assert first.speech is not None
    assert "data:audio/mpeg;base64," in page([first], "a tour")
    assert said([first]).seconds > first.speech.seconds
    assert said([first._replace(speech=None)]) is None


def test_a_speaker_that_lies_in_the_checkpoint_speaks(tiny_directory, tmp_path):
    directory = tmp_path / "checkpoint"
    shutil.copytree(tiny_directory, directory)
    write_speaker(small_speaker(), directory)
    model = OmniInference(directory)
    text, speech, image = model.chat(
        "Hello", output_form=BOTH, voice="bob", max_new_tokens=4, seed=1
    )
    assert text.strip()
    assert image is None
    assert speech.sample_rate_hz == 24_000
    again = model.chat("Hello", output_form=BOTH, voice="bob", max_new_tokens=4, seed=1)
    assert (again.speech.samples == speech.samples).all()
    assert len(model.say("One two three.", SpeechOptions(voice="ann")).samples)
