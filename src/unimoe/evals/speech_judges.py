"""Who listens to speech: two ears, and judges of voice and sound.

In:  nothing.  Out: the judges, each loaded from its part when it is first needed.
"""

from functools import cached_property

from unimoe.evals.baselines import Ear
from unimoe.evals.dnsmos import Dnsmos
from unimoe.evals.sphinx import Sphinx
from unimoe.evals.voice_prints import VoicePrints
from unimoe.evals.whisper import BASE, Whisper


class SpeechJudges:
    """All of them."""

    @cached_property
    def first_ear(self) -> Ear:
        """Of no kin to the second."""
        return Sphinx()

    @cached_property
    def second_ear(self) -> Ear:
        """Makes out more."""
        return Whisper(BASE)

    @cached_property
    def prints(self) -> VoicePrints:
        """Tells voices apart."""
        return VoicePrints()

    @cached_property
    def quality(self) -> Dnsmos:
        """Marks the sound."""
        return Dnsmos()
