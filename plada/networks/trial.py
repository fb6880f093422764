"""A batch of empty images through a network before it is trained: what cannot work is said before any image is read."""

import re
from typing import TYPE_CHECKING

from plada.common.failures import device_failed, first_line, out_of_memory
from plada.errors import RequestError
from plada.networks.network import Network
from plada.networks.recipe import Recipe

if TYPE_CHECKING:
    import torch

_BATCH_NORM = re.compile("more than 1 value per channel|more than 1 spatial element")  # of torch's messages


def try_batch(network: Network, recipe: Recipe, images: int, *, processes: int = 1) -> None:
    """Refuse a network that cannot be trained on so many images at its size, by `processes` that share each batch.

    Weights, statistics of batch norms and torch's generator stay as they are.

    Raises:
        RequestError: the network takes no images of this size, or cannot learn from batches as small.
    """
    import torch

    batch = min(recipe.batch_size, images) // processes
    training = network.module.training
    network.module.train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            _forward(network, 2)
            if batch < 2 and not network.trained:  # a trained body keeps its statistics, and needs no second image
                _forward(network, 1)
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError, ZeroDivisionError) as err:
        reason = first_line(err).rstrip(".")
        if out_of_memory(err) or device_failed(err):
            raise
        if is_lonely(err):
            raise RequestError(lonely(network.name, batch)) from err
        if network.size == own_size(network):  # which is not to blame
            raise RequestError(
                f"network {network.name}: cannot be run ({reason}). Check --model-arg, or take another --student"
            ) from err
        raise RequestError(
            f"network {network.name}: takes no images of {network.size} x {network.size} pixels ({reason}). Change "
            "--image-size, or where the network has a size of its own also --model-arg img_size"
        ) from err
    finally:
        network.module.train(training)


def own_size(network: Network) -> int | None:
    """The size of the images that a network was made for, if it says so."""
    sizes = getattr(network.module, "pretrained_cfg", {}).get("input_size", ())
    return int(sizes[-1]) if sizes else None


def _forward(network: Network, images: int) -> "torch.Tensor":
    import torch

    buffers = {name: buffer.clone() for name, buffer in network.module.named_buffers()}
    pixels = torch.zeros(images, 3, network.size, network.size)
    outputs: torch.Tensor = torch.func.functional_call(network.module, buffers, (pixels,))
    return outputs


def is_lonely(err: BaseException) -> bool:
    """Whether torch refused to take the statistics of a single value."""
    return isinstance(err, ValueError) and _BATCH_NORM.search(str(err)) is not None


def lonely(name: str, batch: int) -> str:
    """What is said where batch norms see a single image."""
    return (
        f"network {name}: its batch norms cannot learn from one image at a time, and a batch has {batch}. Raise --recipe "
        "batch_size and the number of images, or take another --student or --image-size"
    )
