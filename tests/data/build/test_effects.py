import numpy as np
import pytest

from unimoe.data.build.effects import (
    EFFECTS,
    STROKES,
    Dice,
    is_test_share,
    make_effect,
    repeated,
)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.name)
def test_every_effect_is_heard_at_one_level(effect):
    sound = make_effect(effect, Dice(np.random.default_rng(0)))

    assert sound.dtype == np.float32
    assert 0.5 < len(sound) / 16000 < 3.1
    assert float(np.abs(sound).max()) == pytest.approx(0.7, abs=1e-3)


def test_there_are_enough_classes_and_no_name_twice():
    names = [effect.name for effect in EFFECTS]

    assert len(set(names)) == len(names) >= 12


def test_test_and_training_never_draw_the_same():
    training = Dice(np.random.default_rng(0))
    test = Dice(np.random.default_rng(0), is_test=True)

    assert not any(is_test_share(training.between(0, 1)) for _ in range(300))
    assert all(is_test_share(test.between(0, 1)) for _ in range(300))


def test_ranges_of_pitch_are_logarithmic():
    drawn = [Dice(np.random.default_rng(seed)).between(100, 10_000) for seed in range(400)]

    assert np.mean(np.log10(drawn)) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("stroke", STROKES, ids=lambda stroke: stroke.name)
@pytest.mark.parametrize("count", [1, 3, 5])
def test_strokes_can_be_counted(stroke, count):
    sound = repeated(stroke, count, Dice(np.random.default_rng(3)))

    # Loudness in tenths of a second rises from quiet to loud once a stroke.
    frames = np.abs(sound[: len(sound) // 1600 * 1600]).reshape(-1, 1600).max(axis=1)
    is_loud = np.concatenate([[False], frames > 0.45])
    assert int((is_loud[1:] & ~is_loud[:-1]).sum()) == count
