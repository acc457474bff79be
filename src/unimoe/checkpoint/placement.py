"""Placement: which module of a large model lives on which device, and how it still runs as one.

In:  a configuration and the free memory of devices.  Out: a device map, module names -> device.
Embeddings, head, final norm and encoders stay on the first device, home; decoder layers are dealt
out in order.  Hooks move what crosses a border; model code knows nothing of it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unimoe.config import OmniConfig
from unimoe.errors import ConfigError
from unimoe.model.allocate import meta_model
from unimoe.model.omni import OmniModel

_HEADROOM = 0.9
"""Share of a device's free memory that weights may take; the rest is for activations and caches."""


def plan_devices(
    config: OmniConfig, memory_bytes: Mapping[str, int], bytes_per_parameter: int
) -> dict[str, str]:
    """A device map that fills all devices to the same level, the lowest that holds the model.

    >>> plan_devices(two_layers, {"cuda:0": 10**9, "cuda:1": 10**9}, 2)  # doctest: +SKIP
    {"": "cuda:0", "core.layers.0": "cuda:0", "core.layers.1": "cuda:1"}

    Args:
        config: of the model.
        memory_bytes: device -> bytes that weights may take there; the first is home.
        bytes_per_parameter: 2 for bfloat16, 4 for float32.

    Raises:
        ConfigError: the model does not fit, with both sizes.
    """
    outside, layers = _sizes(config, bytes_per_parameter)
    for percent in range(1, 101):
        rooms = {device: size * percent // 100 for device, size in memory_bytes.items()}
        devices = _deal(outside, layers, rooms)
        if devices is not None:
            home = next(iter(memory_bytes))
            return {"": home} | {f"core.layers.{i}": device for i, device in enumerate(devices)}
    needed, there = outside + sum(layers), sum(memory_bytes.values())
    raise ConfigError(
        f"the weights take {needed / 1e9:.1f} GB and the devices {', '.join(memory_bytes)} have "
        f"{there / 1e9:.1f} GB for them; use a smaller dtype or add a device such as 'cpu'"
    )


def available_memory() -> dict[str, int]:
    """Accelerator -> bytes weights may take on it; empty on a machine without any."""
    if not torch.accelerator.is_available():
        return {}
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    free = {
        f"{kind.type}:{index}": torch.accelerator.get_memory_info(index)[0]
        for index in range(torch.accelerator.device_count())
    }
    return {device: int(size * _HEADROOM) for device, size in free.items()}


def device_of(parameter: str, devices: Mapping[str, str]) -> torch.device:
    """The device of the longest module name that begins the parameter's name.

    Raises:
        ConfigError: no name does, or the device is not one that torch knows.
    """
    fitting = [name for name in devices if f"{parameter}.".startswith(f"{name}." if name else "")]
    if not fitting:
        raise ConfigError(f"device_map has no place for {parameter}; '' stands for all others")
    try:
        return torch.device(devices[max(fitting, key=len)])
    except RuntimeError as error:
        raise ConfigError(f"device_map: {error}") from error


def spread(model: OmniModel) -> None:
    """Let a model whose modules lie on several devices run as if they were one.

    Every part then fetches what it reads, and brings home what is needed there.

    Raises:
        ConfigError: one layer or encoder is divided, or embeddings, final norm and head are.
    """
    home = model.device
    for name, module in (("core.norm", model.core.norm), ("core.lm_head", model.core.lm_head)):
        if module is not None and _device_of_all(name, module) != home:
            raise ConfigError(f"device_map: {name} must lie with core.embed_tokens, on {home}")
    for name, encoder in (("vision", model.vision), ("audio", model.audio)):
        if encoder is not None:
            _pull_inputs(encoder, _device_of_all(name, encoder))
            encoder.register_forward_hook(lambda _, __, output: _moved(output, home))
    for number, layer in enumerate(model.core.layers):
        _pull_inputs(layer, _device_of_all(f"core.layers.{number}", layer))
        layer.register_forward_hook(
            lambda _, __, output: (output[0], _moved(output[1], home))  # routing is small
        )
    _pull_inputs(model.core.norm, home)


def _sizes(config: OmniConfig, bytes_per_parameter: int) -> tuple[int, list[int]]:
    """Bytes outside of the decoder layers, and of each layer."""
    model = meta_model(config)
    layers = [_num_parameters(layer) * bytes_per_parameter for layer in model.core.layers]
    return _num_parameters(model) * bytes_per_parameter - sum(layers), layers


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _deal(outside: int, layers: list[int], rooms: Mapping[str, int]) -> list[str] | None:
    """Device of every layer, each device filled in turn; None when they do not fit."""
    left = list(rooms.items())
    device, room = left.pop(0)
    room -= outside
    if room < 0:
        return None
    dealt = []
    for size in layers:
        while size > room:
            if not left:
                return None
            device, room = left.pop(0)
        dealt.append(device)
        room -= size
    return dealt


def _device_of_all(name: str, module: nn.Module) -> torch.device:
    devices = {parameter.device for parameter in module.parameters()}
    if len(devices) > 1:
        raise ConfigError(
            f"device_map divides {name} over {', '.join(sorted(map(str, devices)))}; "
            "layers and encoders stay whole"
        )
    return devices.pop()


def _pull_inputs(module: nn.Module, device: torch.device) -> None:
    module.register_forward_pre_hook(lambda _, inputs: _moved(inputs, device))


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors, and tuples of them at any depth, on a device; anything else as it is."""
    if isinstance(value, Tensor):
        # The CPU does not wait for a copy from an accelerator: it would read what is not there yet.
        return value.to(device, non_blocking=device.type != "cpu")
    if isinstance(value, tuple):
        parts = [_moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
