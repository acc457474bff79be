"""A model without storage, and memory for it.

In:  a configuration.  Out: an `OmniModel` on the meta device, of any size at no cost; `allocate`
then gives every parameter its own memory, which nobody has to initialise first.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unimoe.config import OmniConfig
from unimoe.model.omni import OmniModel


def meta_model(config: OmniConfig) -> OmniModel:
    """The model without any storage: names and shapes only."""
    with torch.device("meta"), _Undrawn():
        return OmniModel(config)


def parameter_shapes(config: OmniConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of our parameters by name."""
    return {
        name: tuple(parameter.shape) for name, parameter in meta_model(config).named_parameters()
    }


def allocate(model: nn.Module, empty: Callable[[str, torch.Size], Tensor]) -> None:
    """Replace every parameter of a meta model by `empty(name, shape)`, which holds real memory.

    What the model freezes stays frozen.
    """
    for name, parameter in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        memory = nn.Parameter(empty(name, parameter.shape), requires_grad=parameter.requires_grad)
        setattr(module, leaf, memory)
    # No checkpoint holds these, so they would stay empty: modules must compute such values.
    assert not [name for name, buffer in model.named_buffers() if buffer.is_meta]


class _Undrawn(TorchFunctionMode):
    """Within it no random numbers are drawn: tensors stay as they are.

    Where there is no storage, torch would trace each drawing with a compiler that takes two seconds
    to import.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        return function(*args, **(kwargs or {}))
