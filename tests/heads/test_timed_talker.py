import pytest
import torch
from heads.made_speakers import SMALL_TALKER, small_speaker

from unimoe.config import TimedTalkerConfig
from unimoe.errors import ConfigError
from unimoe.heads.speech_rows import SpeechExample
from unimoe.heads.timed_talker import (
    TimedExample,
    TimedTalker,
    collate_timed,
    moments_of,
    timed_losses,
)


@pytest.fixture(scope="module")
def talker() -> TimedTalker:
    return small_speaker().talker


def _example(durations: list[int], seed: int, context: list[int]) -> TimedExample:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(32, (sum(durations),), generator=generator).tolist()
    letters = torch.randint(30, (len(durations),), generator=generator).tolist()
    speech = SpeechExample(voice_ids=[33], text_ids=letters, context_codes=context, codes=codes)
    return TimedExample(speech=speech, durations=durations)


def test_every_code_knows_its_letter_and_how_much_of_it_is_over():
    moments = moments_of(torch.tensor([[2, 0, 3, 1], [1, 1, 0, 0]]))
    assert moments.character[0].tolist() == [0, 0, 2, 2, 2, 3]
    assert moments.character[1, :2].tolist() == [0, 1]
    assert (moments.clock[0, :, 0] * 8).tolist() == [0, 1, 0, 1, 2, 0]
    assert (moments.clock[0, :, 1] * 8).tolist() == [2, 1, 3, 2, 1, 1]


def test_a_batch_says_what_its_examples_say_alone(talker):
    examples = [_example([2, 1, 3], 0, []), _example([1, 0, 2, 4, 1], 1, [5, 6, 7])]
    with torch.no_grad():
        alone = [timed_losses(talker, collate_timed([each], SMALL_TALKER)) for each in examples]
        both = timed_losses(talker, collate_timed(examples, SMALL_TALKER))
    # codes and their end; characters
    for name, counts in (("codes", (7, 9)), ("durations", (3, 5))):
        mean = sum(n * loss[name] for n, loss in zip(counts, alone, strict=True)) / sum(counts)
        torch.testing.assert_close(both[name], mean, atol=1e-5, rtol=1e-5)


def test_the_letter_that_is_said_changes_the_code(talker):
    example = _example([2, 2], 3, [])
    other = TimedExample(speech=example.speech, durations=[1, 3])
    with torch.no_grad():
        losses = [
            timed_losses(talker, collate_timed([each], SMALL_TALKER))["codes"]
            for each in (example, other)
        ]
    assert abs(float(losses[0] - losses[1])) > 1e-4


def test_forgetting_spares_the_row_that_starts_the_codes(talker):
    example = collate_timed([_example([3, 3], 4, [])], SMALL_TALKER)
    with torch.no_grad():
        torch.manual_seed(0)
        kept = timed_losses(talker, example, forgotten=0.0)["codes"]
        lost = timed_losses(talker, example, forgotten=1.0)["codes"]
    assert torch.isfinite(lost)
    assert float(kept) != float(lost)


def test_voices_and_characters_must_fit_the_vocabulary():
    with pytest.raises(ConfigError, match="text_vocab_size"):
        TimedTalkerConfig(talker=SMALL_TALKER.talker, voices=tuple(f"v{i}" for i in range(9)))
