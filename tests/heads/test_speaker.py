import numpy as np
import pytest
import torch
from heads.made_speakers import SMALL_TALKER, small_speaker

from unimoe.errors import RequestError
from unimoe.heads.speaker import Speaker, rounded_durations, text_ids
from unimoe.heads.speech_rows import SpeechExample
from unimoe.heads.timed_talker import TimedExample, collate_timed, moments_of


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return small_speaker()


def test_codes_are_those_of_a_forward_without_memory(speaker):
    text, context = "well, go on.", [3, 4, 5]
    codes = list(speaker.write(text, voice="bob", context=context))
    example = SpeechExample(
        voice_ids=[len(SMALL_TALKER.characters) + 1],
        text_ids=text_ids(text, SMALL_TALKER.characters),
        context_codes=context,
        codes=codes,
    )
    talker = speaker.talker
    with torch.no_grad():
        batch = collate_timed([TimedExample(speech=example, durations=[0] * 12)], SMALL_TALKER)
        inputs = talker.talker.embed(batch.rows.ids, batch.rows.is_text)
        start, first = int(batch.text_starts), int(batch.code_starts)
        prompt = talker(inputs[:, :first], batch.rows.visible[:, :first, :first])
        durations = rounded_durations(talker.durations(prompt[:, start : start + 12])[0])
        assert int(durations.sum()) == len(codes)
        near = talker.letters_near(batch.text_ids, torch.ones(1, 12, dtype=torch.bool))
        said = talker.said_at(near, moments_of(durations[None]))
        inputs[:, first : first + len(codes)] += said
        states = talker(inputs, batch.rows.visible)
        logits = talker.talker.head(states[0, first : first + len(codes)])[:, :32]
    assert logits.argmax(-1).tolist() == codes


def test_sound_in_pieces_is_the_sound_at_once(speaker):
    codes = torch.randint(32, (90,)).tolist()
    pieces = list(speaker.sound(iter(codes)))
    whole = speaker.codec.decode(torch.tensor([codes]))[0].detach().numpy()
    assert len(pieces) > 2
    error = np.concatenate(pieces) - whole
    assert np.square(error).mean() / np.square(whole).mean() < 1e-6  # -60 dB


def test_sound_begins_before_the_codes_end(speaker):
    asked = []

    def codes():
        for number in range(200):
            asked.append(number)
            yield number % 32

    pieces = speaker.sound(codes())
    next(pieces)
    assert len(asked) < 80


def test_a_faster_pace_says_it_in_fewer_codes(speaker):
    counts = [
        len(list(speaker.write("hello there.", voice="ann", pace=pace, seed=0)))
        for pace in (0.5, 1.0, 2.0)
    ]
    assert counts[0] == pytest.approx(2 * counts[1], abs=2)
    assert counts[2] == pytest.approx(counts[1] / 2, abs=2)


def test_a_seed_repeats_what_it_said(speaker):
    said = [list(speaker.write("hello.", voice="ann", seed=seed)) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_running_sums_are_rounded_not_each_duration():
    assert rounded_durations(torch.tensor([0.4, 0.4, 0.4, 0.4])).tolist() == [0, 1, 0, 1]
    assert rounded_durations(torch.tensor([0.1, 0.1])).sum() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The U S A.", "the you ess ay."),
        ("Plan B, I say.", "plan bee, i say."),
        ("A dog.", "a dog."),
        ("D'you see", "d'you see"),
        ("I R S", "eye are ess"),
    ],
)
def test_letters_that_stand_alone_have_names(text, said):
    characters = SMALL_TALKER.characters
    assert "".join(characters[number] for number in text_ids(text, characters)) == said


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("room 7", {"voice": "ann"}),
        (" ", {"voice": "ann"}),
        ("hello", {"voice": "carl"}),
        ("hello", {"voice": "ann", "pace": 0.1}),
        ("a" * 1000, {"voice": "ann"}),
    ],
)
def test_what_cannot_be_said_is_refused(speaker, text, options):
    with pytest.raises(RequestError):
        list(speaker.write(text, **options))
