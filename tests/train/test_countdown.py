import logging

import pytest

from unimoe.train.countdown import Countdown


def test_it_tells_every_half_minute_how_long_the_rest_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr("unimoe.train.countdown.time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    countdown = Countdown("prompts", 400, logging.getLogger("unimoe.test"))

    for after, done in ((0.0, 0), (10.0, 25), (40.0, 100), (50.0, 125), (80.0, 200)):
        now[0] = 100.0 + after
        countdown.at(done)

    assert caplog.messages == [
        "prompts: 100 of 400, 120 s left",
        "prompts: 200 of 400, 80 s left",
    ]
