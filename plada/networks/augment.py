"""Random changes of a batch of images, on whatever device it is: one affine map an image."""

import math
from typing import TYPE_CHECKING

from plada.networks.device import send
from plada.networks.recipe import Recipe

if TYPE_CHECKING:
    import torch


def augment(images: "torch.Tensor", recipe: Recipe, generator: "torch.Generator") -> "torch.Tensor":
    """Changed float images [n, c, size, size] of images [n, c, s, s] with s = supersample x size.

    All random numbers come from `generator` (on the CPU).
    """
    import torch
    from torch.nn import functional

    n, channels, height, width = images.shape

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    angle = uniform(-recipe.rotate, recipe.rotate) * (math.pi / 180)
    scale = uniform(-math.log(recipe.scale), math.log(recipe.scale)).exp()
    stretch = uniform(-recipe.stretch, recipe.stretch).exp()
    shear = uniform(-recipe.shear, recipe.shear)
    across, down = (uniform(-2 * recipe.translate, 2 * recipe.translate) for _ in range(2))
    side = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if recipe.mirror else torch.ones(n)

    # affine_grid maps places of the result to places of the source, so a larger scale takes a smaller step.
    cos, sin, x_step, y_step = angle.cos(), angle.sin(), side * stretch / scale, 1 / (stretch * scale)
    theta = torch.stack(
        [
            torch.stack([cos * x_step, (shear * cos - sin) * y_step, across], 1),
            torch.stack([sin * x_step, (shear * sin + cos) * y_step, down], 1),
        ],
        1,
    )
    grid = functional.affine_grid(send(theta, images.device), [n, channels, height, width], align_corners=False)
    # What lies outside is filled with the median of the border: the ground of a character, a plain tone beside a photo.
    # To repeat the border instead would draw strokes that touch it out to the new one.
    rim = torch.cat([images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]], 2)
    ground = rim.median(dim=2).values[:, :, None, None]
    warped = ground + functional.grid_sample(images - ground, grid, mode="bilinear", align_corners=False)
    # Reduced only now: what the network learns from is as sharp as what it is asked about later.
    return functional.avg_pool2d(warped, recipe.supersample) if recipe.supersample > 1 else warped
