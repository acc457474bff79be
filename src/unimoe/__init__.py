"""unimoe: train, run and serve omnimodal mixture-of-experts models.

Public names load on first use, so that `unimoe --help` starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimoe.checkpoint.weights import load_model
    from unimoe.infer.session import OmniInference

__version__ = "0.1.0"
__all__ = ["OmniInference", "__version__", "load_model"]

_HOMES = {"OmniInference": "unimoe.infer.session", "load_model": "unimoe.checkpoint.weights"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unimoe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
