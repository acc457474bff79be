import numpy as np

from unimoe.media.audio import load_audio
from unimoe.media.encode import encode_audio


def test_sound_keeps_the_rate_it_is_asked_for():
    tone = np.sin(np.arange(24_000) * 0.9).astype(np.float32) * 0.5  # 3.4 kHz
    data = encode_audio((tone, 24_000), sample_rate_hz=24_000)
    kept = load_audio(data, sample_rate_hz=24_000)
    assert kept.sample_rate_hz == 24_000
    np.testing.assert_allclose(kept.samples, tone, atol=1e-4)
    assert len(load_audio(data).samples) == 16_000
