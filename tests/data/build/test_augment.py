import numpy as np
import pytest

from unimoe.data.build.augment import EFFECTS, augmented, coloured_noise, loudness, repaced

TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
def test_every_effect_changes_the_sound_and_keeps_its_type(effect):
    changed = effect(TONE, np.random.default_rng(1))

    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert len(changed) != len(TONE) or not np.array_equal(changed, TONE)


def test_only_pace_changes_the_length():
    lengths = {e.__name__: len(e(TONE, np.random.default_rng(1))) for e in EFFECTS}

    assert {name for name, length in lengths.items() if length != len(TONE)} == {"repaced"}
    assert repaced is EFFECTS[0]


def test_share_of_changed_sounds():
    rng = np.random.default_rng(0)

    assert augmented(TONE, rng, share=0.0) is TONE
    assert augmented(TONE, rng, share=1.0) is not TONE


def test_augmented_is_the_same_for_the_same_seed_and_never_clips():
    sounds = [augmented(TONE, np.random.default_rng(seed), share=1.0) for seed in range(12)]
    again = [augmented(TONE, np.random.default_rng(seed), share=1.0) for seed in range(12)]

    assert all(np.array_equal(one, other) for one, other in zip(sounds, again, strict=True))
    assert all(np.abs(sound).max() <= 1 for sound in sounds)


def test_brown_noise_is_lower_than_white():
    white, brown = (coloured_noise(8000, c, np.random.default_rng(0)) for c in (0.0, 1.0))

    changes = [loudness(np.diff(noise)) / loudness(noise) for noise in (white, brown)]
    assert changes[1] < 0.5 * changes[0]
