"""What a configuration asks of its values."""

from unimoe.errors import ConfigError


def require(claim: bool, message: str) -> None:
    """Refuse values that do not fit.

    Raises:
        ConfigError: with this message, if the claim is false.
    """
    if not claim:
        raise ConfigError(message)
