"""Batch norms folded into the convolutions before them. In evaluation mode they are a scale and a shift, which the weights can
hold; on a CPU each batch norm costs a pass over memory (figures: docs/decisions.md)."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_ALIKE = 1e-4  # of the largest feature: float32 rounds otherwise by some millionths, a wrong pair is off by tenths
_PICTURES = 2


def fold_batch_norms(module: "nn.Module", features: "Callable[[torch.Tensor], torch.Tensor]", size: int) -> int:
    """Fold what can be folded in a module in evaluation mode on the CPU: how many batch norms are gone.

    Pairs are told by the order in which modules were registered, which need not be the order in which they run: so
    `features` of some random pictures [n, 3, size, size] are compared, and where they differ all is put back (0).
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    pairs = list(_pairs(module))
    if not pairs:
        return 0
    pictures = torch.rand(_PICTURES, 3, size, size, generator=torch.Generator().manual_seed(0)) * 4 - 2
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        before = features(pictures)
    undo: list[tuple[nn.Module, str, nn.Module]] = []
    for parent, first, convolution, second, norm in pairs:
        undo += [(parent, first, convolution), (parent, second, norm)]
        setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
        # timm's layer is a batch norm with an activation behind it, which stays.
        setattr(parent, second, getattr(norm, "act", None) or torch.nn.Identity())
    with torch.inference_mode():
        after = features(pictures)
    if after.shape == before.shape and (after - before).abs().max() <= _ALIKE * before.abs().max():
        return len(pairs)
    for parent, name, child in undo:
        setattr(parent, name, child)
    return 0


def _pairs(module: "nn.Module") -> "Iterator[tuple[nn.Module, str, nn.Conv2d, str, nn.BatchNorm2d]]":
    """(parent, name of the convolution, it, name of the batch norm, it) of neighbours that look like a pair."""
    from torch import nn

    for parent in module.modules():
        children = list(parent.named_children())
        for (first, convolution), (second, norm) in pairwise(children):
            if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                continue
            plain = type(norm) is nn.BatchNorm2d or hasattr(norm, "act")
            if plain and norm.running_mean is not None and norm.num_features == convolution.out_channels:
                yield parent, first, convolution, second, norm
