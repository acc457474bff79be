"""Long texts become speech: in order, in time, without faults; and it stops when told to."""

import logging
from collections.abc import Iterator

import av
import numpy as np
import pytest

from tests.infer.fake_speaker import RATE_HZ, FakeSpeaker
from unimoe.errors import MediaError, RequestError
from unimoe.infer.speaking import CONTEXT_SECONDS, PAUSE_SECONDS, Speaking, raised, speak
from unimoe.infer.speech import Speech, SpeechOptions

TEXT = "The first one is good. The second one loops. The third one ends."


def texts(speaker: FakeSpeaker) -> list[str]:
    return [said.text for said in speaker.said]


def test_every_sentence_is_said_in_order_after_the_end_of_the_one_before() -> None:
    speaker = FakeSpeaker()
    chunks = list(speak(speaker, [TEXT]))
    assert texts(speaker) == [
        "The first one is good.",
        "The second one loops.",
        "The third one ends.",
    ]
    assert len(chunks) == 3
    first, second, _ = speaker.said
    assert first.context == ()
    assert len(second.context) == round(CONTEXT_SECONDS * speaker.codes_per_second)
    plain = FakeSpeaker()
    written = list(plain.write(first.text, voice="woman", seed=first.seed))
    assert second.context == tuple(written[-len(second.context) :])


def test_numbers_are_put_in_words_and_cut_again_where_that_is_too_long() -> None:
    speaker = FakeSpeaker()
    options = SpeechOptions(sentence_split_threshold=40)
    list(speak(speaker, ["It is 1,234,567,891 here"], options))
    assert len(speaker.said) > 1
    assert all(len(text) <= 41 for text in texts(speaker))
    assert " ".join(texts(speaker)).replace(",", "") == (
        "It is one billion two hundred and thirty-four million five hundred and sixty-seven"
        " thousand eight hundred and ninety-one here."
    )


def test_the_first_piece_is_short_so_that_it_is_soon_heard() -> None:
    speaker = FakeSpeaker()
    list(speak(speaker, ["word " * 30 + "ends here."]))
    first, second = texts(speaker)
    assert len(first) <= 81
    assert first[:-1] + " " + second == "word " * 30 + "ends here."


def test_speech_begins_before_the_text_ends() -> None:
    speaker = FakeSpeaker()

    def pieces() -> Iterator[str]:
        yield "One sentence is here. Another"
        assert texts(speaker) == ["One sentence is here."]
        yield " one follows."

    chunks = speak(speaker, pieces())
    assert len(next(chunks).samples) > 0
    list(chunks)
    assert texts(speaker) == ["One sentence is here.", "Another one follows."]


@pytest.mark.parametrize("fault", ["loop", "silence", "endless", "short"])
def test_only_the_bad_sentence_is_written_again(fault: str) -> None:
    speaker = FakeSpeaker({"second": [fault]})
    speaking = Speaking(speaker, SpeechOptions(), seed=7)
    speaking.push(TEXT)
    speaking.finish()
    chunks = list(speaking.rest())
    said = texts(speaker)
    assert [said.count(text) for text in dict.fromkeys(said)] == [1, 2, 1]
    assert [each.seed is None for each in speaker.said] == [True, True, False, True]
    assert (speaking.usage.num_sentences, speaking.usage.num_regenerated) == (3, 1)
    good = FakeSpeaker()
    expected = list(speak(good, [TEXT], seed=7))
    assert len(chunks[1].samples) == len(expected[1].samples)
    np.testing.assert_array_equal(chunks[0].samples, expected[0].samples)


def test_the_best_of_bad_attempts_is_kept_and_told(caplog: pytest.LogCaptureFixture) -> None:
    speaker = FakeSpeaker({"second": ["endless", "silence", "loop"]})
    with caplog.at_level(logging.WARNING):
        chunks = list(speak(speaker, [TEXT]))
    assert len(speaker.said) == 5
    assert "'The second one loops.' is not spoken well after 3 attempts: silence" in caplog.text
    assert len(chunks) == 3


def test_a_loop_is_stopped_before_its_time_is_up() -> None:
    class Counting(FakeSpeaker):
        num_codes = 0

        def _spoilt(self, good: list[int], text: str) -> Iterator[int]:
            for code in [3, 4] * 10_000 if self.num_codes == 0 else good:
                self.num_codes += 1
                yield code

    speaker = Counting()
    list(speak(speaker, ["A sentence that goes on for very long, and then for longer still."]))
    assert speaker.num_codes < 80 + 300


def test_a_seed_is_of_what_is_said_again_alone() -> None:
    def samples(seed: int, *faults: str) -> np.ndarray:
        chunks = list(speak(FakeSpeaker({"second": list(faults)}), [TEXT], seed=seed))
        return Speech.of_chunks(chunks).samples

    np.testing.assert_array_equal(samples(1), samples(2))
    np.testing.assert_array_equal(samples(1, "loop"), samples(1, "loop"))
    assert not np.array_equal(samples(1, "loop"), samples(2, "loop"))


def test_every_attempt_after_the_first_has_a_seed_of_its_own() -> None:
    speaker = FakeSpeaker({"second": ["loop", "loop", "loop"]})
    list(speak(speaker, [TEXT], seed=7))
    seeds = [each.seed for each in speaker.said if each.text.lower().startswith("the second")]
    assert seeds[0] is None
    assert len(set(seeds)) == len(seeds) > 2


def test_sentences_meet_in_a_pause_without_clicks() -> None:
    first, second, _ = speak(FakeSpeaker(), [TEXT])
    pause = round(PAUSE_SECONDS["."] * RATE_HZ)
    assert not second.samples[:pause].any()
    assert abs(second.samples[pause + 200]) > 0 or second.samples[pause : pause + 400].any()
    for samples in (first.samples, second.samples[pause:]):
        assert abs(samples[0]) < 1e-4
        assert abs(samples[-1]) < 1e-4


def test_a_pace_and_a_voice_reach_the_speaker() -> None:
    speaker = FakeSpeaker()
    options = SpeechOptions(voice="a deep man, slow", pace=1.2)
    list(speak(speaker, ["A sentence."], options))
    said = speaker.said[0]
    # Deeper is said faster, and played slower.
    assert (said.voice, said.pace) == ("man", pytest.approx(0.85 * 1.2 / 0.88))


def test_another_voice_has_nothing_before_it() -> None:
    speaker = FakeSpeaker()
    speaking = Speaking(speaker, SpeechOptions(), seed=0)
    speaking.push("I am one person here")
    speaking.change_voice("man")
    speaking.push("And I am another one")
    speaking.change_voice(None)
    speaking.push("The first one again")
    speaking.finish()
    list(speaking.rest())
    assert [said.voice for said in speaker.said] == ["woman", "man", "woman"]
    assert [len(said.context) for said in speaker.said] == [0, 0, 0]


def test_a_voice_in_the_answer_that_is_not_understood_is_told_and_the_usual_one_speaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    speaker = FakeSpeaker()
    speaking = Speaking(speaker, SpeechOptions(voice="man"), seed=0)
    speaking.change_voice("a purple voice")
    speaking.push("What I say.")
    speaking.finish()
    list(speaking.rest())
    assert speaker.said[0].voice == "man"
    assert "'purple' is not understood" in caplog.text


def test_closing_stops_within_a_sentence() -> None:
    speaker = FakeSpeaker({"first": ["endless"] * 9})
    speaking = Speaking(speaker, SpeechOptions(), seed=0)
    speaking.push(TEXT)
    assert speaking.step() is None
    assert (len(speaker.said), speaker.num_closed) == (1, 0)
    speaking.close()
    assert speaker.num_closed == 1
    assert speaking.is_idle
    assert list(speaking.rest()) == []
    assert len(speaker.said) == 1


def test_a_closed_iterator_says_no_more() -> None:
    speaker = FakeSpeaker()
    chunks = speak(speaker, [TEXT])
    next(chunks)
    chunks.close()
    assert len(speaker.said) == speaker.num_closed == 1


def test_a_text_of_two_sentences_is_refused_where_long_form_is_off() -> None:
    options = SpeechOptions(long_form=False)
    assert len(list(speak(FakeSpeaker(), ["One single sentence, however: short."], options))) == 1
    with pytest.raises(RequestError, match="longer than one sentence of 160 characters"):
        list(speak(FakeSpeaker(), [TEXT], options))


@pytest.mark.parametrize("text", ["", "...", "---"])
def test_nothing_to_say_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="nothing in the text"):
        list(speak(FakeSpeaker(), [text]))


@pytest.mark.parametrize("bad", [{"pace": 0.1}, {"pace": 3.0}, {"sentence_split_threshold": 5}])
def test_an_impossible_option_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(bad))):
        SpeechOptions(**bad)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"])
def test_speech_is_saved_in_the_container_its_name_asks_for(tmp_path, ending: str) -> None:
    time = np.arange(RATE_HZ) / RATE_HZ
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    path = tmp_path / f"answer{ending}"
    Speech(tone, RATE_HZ).save(path)
    with av.open(path) as container:
        decoded = [frame.to_ndarray() for frame in container.decode(audio=0)]
        samples = np.concatenate(decoded, axis=1)[0]
        assert container.streams.audio[0].codec_context.channels == 1
    rate = 48_000 if ending in (".ogg", ".opus") else RATE_HZ
    assert len(samples) == pytest.approx(rate, rel=0.1)
    if ending == ".wav":
        np.testing.assert_allclose(samples / 32767, tone, atol=1e-4)


def test_speech_is_not_saved_as_what_it_cannot_be(tmp_path) -> None:
    speech = Speech(np.ones(10, np.float32), RATE_HZ)
    with pytest.raises(MediaError, match=r"\.txt"):
        speech.save(tmp_path / "answer.txt")
    with pytest.raises(MediaError, match="0 samples"):
        Speech(np.zeros(0, np.float32), RATE_HZ).save(tmp_path / "answer.wav")


def test_a_pitch_raises_the_sound_and_shortens_it():
    tone = np.sin(2 * np.pi * 300 * np.arange(24_000) / 24_000).astype(np.float32)
    higher = raised(tone, 1.25)
    assert len(higher) == pytest.approx(24_000 / 1.25, abs=2)
    spectrum = np.abs(np.fft.rfft(higher * np.hanning(len(higher))))
    assert np.argmax(spectrum) * 24_000 / len(higher) == pytest.approx(375, abs=2)
    assert raised(tone, 1.0) is tone
