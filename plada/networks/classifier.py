"""The last layer of a network on its own: what goes into it, and another one in its place."""

from typing import TYPE_CHECKING, Any

import numpy as np

from plada.common.arrays import F32, U8
from plada.errors import RequestError
from plada.networks.linear_head import Head
from plada.networks.network import SMALL_CNN, Network, normalise, pick_device, to_device, to_floats

if TYPE_CHECKING:
    from torch import nn

_BATCH = 256


def classifier_of(network: Network) -> "nn.Linear":
    """The linear layer that gives the logits. Raises RequestError: the network ends in something else."""
    from torch import nn

    module: Any = network.module
    last = module.head if network.name == SMALL_CNN else module.get_classifier()
    if not isinstance(last, nn.Linear):
        raise RequestError(
            f"student {network.name}: its last layer is {type(last).__name__}, which cannot be fitted again; expected Linear. "
            "Leave out --own, or take another student"
        )
    return last


def features(network: Network, pixels: U8, *, device: str | None = None) -> F32:
    """What goes into the last layer, float32 [n, d], of pixels uint8 [n, size, size, 3]."""
    import torch

    where = pick_device(device)
    module = to_device(network.module.eval(), where)
    seen: list[torch.Tensor] = []
    hook = classifier_of(network).register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].float().cpu()))
    try:
        with torch.inference_mode():
            for start in range(0, len(pixels), _BATCH):
                module(normalise(network, to_floats(pixels[start : start + _BATCH], where)))
    finally:
        hook.remove()
    return np.concatenate([np.asarray(part) for part in seen])


def replace_head(network: Network, head: Head) -> None:
    """Let the last layer give the logits of a head on `features`."""
    import torch

    last = classifier_of(network)
    if last.bias is None:
        raise RequestError(
            f"student {network.name}: its last layer has no bias. Leave out --own, or take another student"
        )
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(np.ascontiguousarray(head.weight.T)))
        last.bias.copy_(torch.from_numpy(head.bias - head.mean @ head.weight))
