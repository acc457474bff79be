from collections.abc import Iterator

import jaxtyping
import pytest

from tests.tokens.tiny_vocabulary import special_tokens_of, tiny_config, tiny_tokenizer
from unimoe.config import OmniConfig, SpecialTokens
from unimoe.tokens.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def special_tokens() -> SpecialTokens:
    return special_tokens_of(tiny_tokenizer())


@pytest.fixture(scope="session")
def vocabulary(special_tokens: SpecialTokens) -> Vocabulary:
    return Vocabulary(tiny_tokenizer(), special_tokens)


@pytest.fixture(scope="session")
def config(special_tokens: SpecialTokens) -> OmniConfig:
    return tiny_config(special_tokens)


@pytest.fixture
def without_type_checks() -> Iterator[None]:
    """Outside the test run nobody checks annotations: wrong values reach our own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
