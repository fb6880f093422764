"""mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899).

Each image is blended with another image of its batch, or patched with it, and the labels are mixed in the same proportion.
One proportion is drawn for a batch, as in timm; where both are on, a coin decides between them.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from plada.networks.device import send
from plada.networks.recipe import Recipe

if TYPE_CHECKING:
    import torch


def mix(
    images: "torch.Tensor", labels: "torch.Tensor", recipe: Recipe, generator: "torch.Generator"
) -> "tuple[torch.Tensor, torch.Tensor, float]":
    """(images [n, c, h, w], the other labels [n], share of the first labels) of images and labels [n].

    With both options off nothing is drawn from `generator` and the share is 1.
    """
    import torch

    if not recipe.mixup and not recipe.cutmix:
        return images, labels, 1.0
    draw = np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=generator)))
    cut = bool(recipe.cutmix) and (not recipe.mixup or draw.random() < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    share = float(draw.beta(alpha, alpha))
    other = send(torch.from_numpy(draw.permutation(len(labels))), images.device)
    if not cut:
        return images.lerp(images[other], 1 - share), labels[other], share
    height, width = images.shape[2:]
    # A patch of 1 - share of the area around a random centre; what lies outside the image does not count.
    tall, wide = height * math.sqrt(1 - share), width * math.sqrt(1 - share)
    down, across = draw.random() * height, draw.random() * width
    top, bottom = (round(min(max(edge, 0), height)) for edge in (down - tall / 2, down + tall / 2))
    left, right = (round(min(max(edge, 0), width)) for edge in (across - wide / 2, across + wide / 2))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
    return mixed, labels[other], 1 - (bottom - top) * (right - left) / (height * width)
