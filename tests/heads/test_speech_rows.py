import pytest

from tests.heads.made_talkers import TINY
from unimoe.errors import RequestError
from unimoe.heads.speech_rows import IGNORED, Control, SpeechExample, collate_speech

FULL = SpeechExample(voice_ids=[7], text_ids=[8, 9], context_codes=[3], codes=[1, 2])
BRIEF = SpeechExample(voice_ids=[], text_ids=[5], codes=[4])


def test_blocks_stand_in_the_order_they_are_trained_in() -> None:
    batch = collate_speech([FULL], TINY)
    voice, context, text = [16, 7, 17], [18, 3, 19], [12, 8, 9, 20]
    assert batch.ids.tolist() == [voice + context + text + [13, 1, 2]]
    assert batch.is_text[0].nonzero().flatten().tolist() == [1, 7, 8]


def test_no_context_and_an_empty_one_differ() -> None:
    empty = SpeechExample(voice_ids=[], text_ids=[5], context_codes=[], codes=[4])
    assert collate_speech([BRIEF], TINY).ids.tolist() == [[16, 17, 12, 5, 20, 13, 4]]
    assert collate_speech([empty], TINY).ids.tolist() == [[16, 17, 18, 19, 12, 5, 20, 13, 4]]


def test_targets_are_the_codes_and_their_end() -> None:
    batch = collate_speech([FULL, BRIEF], TINY)
    assert batch.targets.tolist() == [
        [IGNORED] * 10 + [1, 2, Control.CODES_END.code(TINY)],
        [IGNORED] * 5 + [4, Control.CODES_END.code(TINY)] + [IGNORED] * 6,
    ]


def test_the_prompt_sees_itself_and_codes_see_what_is_before_them() -> None:
    drawn = [
        "11111..",  # VOICE_START
        "11111..",  # VOICE_END
        "11111..",  # TEXT_START
        "11111..",  # text
        "11111..",  # TEXT_END
        "111111.",  # CODES_START
        "1111111",  # code
    ]
    visible = collate_speech([BRIEF], TINY).visible[0]
    assert ["".join(".1"[seen] for seen in row) for row in visible.tolist()] == drawn


def test_padding_comes_last_and_nothing_real_sees_it() -> None:
    batch = collate_speech([FULL, BRIEF], TINY)
    assert batch.is_real.sum(-1).tolist() == [13, 7]
    assert batch.ids[1, 7:].tolist() == [Control.PAD.code(TINY)] * 6
    assert not batch.is_text[1, 7:].any()
    assert not batch.visible[1, :7, 7:].any()
    assert batch.visible.any(-1).all()


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            SpeechExample(voice_ids=[20], text_ids=[1]),
            "voice_ids holds 20; the talker knows 0 to 19",
        ),
        (SpeechExample(voice_ids=[], text_ids=[-1]), "text_ids holds -1"),
        (SpeechExample(voice_ids=[], text_ids=[1], codes=[12]), "codes holds 12; .* 0 to 11"),
        (SpeechExample(voice_ids=[], text_ids=[1], context_codes=[99]), "context_codes holds 99"),
        (SpeechExample(voice_ids=[1], text_ids=[]), "text_ids is empty"),
    ],
)
def test_ids_outside_of_their_vocabulary_are_refused(example: SpeechExample, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        collate_speech([example], TINY)


def test_controls_follow_the_codes_in_the_released_order() -> None:
    assert [control.code(TINY) for control in Control] == list(range(12, 21))
