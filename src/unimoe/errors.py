"""Every exception that unimoe raises on purpose; one base class to catch.

    UnimoeError
    ├── MediaError       an image, sound or video cannot be used as it is
    ├── DataError        a data set or one of its samples breaks its format or its promises
    ├── RequestError     a prompt or a generation option makes no sense
    ├── CheckpointError  a directory of weights is incomplete, foreign or damaged
    ├── ConfigError      a configuration value is impossible or unknown
    ├── PartsError       a pretrained part cannot be fetched, or is not what it should be
    └── TrainingError    a training run cannot begin, go on, or be trusted any more

A message says what was wanted, what came, where, and what to do about it.
"""


class UnimoeError(Exception):
    """Base class: `except UnimoeError` catches all that is wrong with the input, never a bug."""


class MediaError(UnimoeError):
    """An image, sound or video is damaged, empty, of an unknown kind, or beyond a limit."""


class DataError(UnimoeError):
    """A sample, a manifest or a data set is malformed, incomplete or not what it promises."""


class RequestError(UnimoeError):
    """A prompt, a conversation or a generation option cannot be carried out."""


class CheckpointError(UnimoeError):
    """A checkpoint is missing tensors, holds unknown ones, or cannot be read safely."""


class ConfigError(UnimoeError):
    """A configuration value is out of range, or a field does not exist."""


class PartsError(UnimoeError):
    """A pretrained part is out of reach, fails its checksum, or holds something unexpected."""


class TrainingError(UnimoeError):
    """A run diverged, or its folder holds something else than it should."""
