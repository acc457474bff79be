"""Every exception that unimoe raises on purpose; one base class to catch.

    UnimoeError
    ├── MediaError       an image, sound or video cannot be used as it is
    ├── RequestError     a prompt or a generation option makes no sense
    ├── CheckpointError  a directory of weights is incomplete, foreign or damaged
    └── ConfigError      a configuration value is impossible or unknown

A message says what was wanted, what came, where, and what to do about it.
"""


class UnimoeError(Exception):
    """Base class: `except UnimoeError` catches all that is wrong with the input, never a bug."""


class MediaError(UnimoeError):
    """An image, sound or video is damaged, empty, of an unknown kind, or beyond a limit."""


class RequestError(UnimoeError):
    """A prompt, a conversation or a generation option cannot be carried out."""


class CheckpointError(UnimoeError):
    """A checkpoint is missing tensors, holds unknown ones, or cannot be read safely."""


class ConfigError(UnimoeError):
    """A configuration value is out of range, or a field does not exist."""
