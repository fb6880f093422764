"""Augmentation: off means unchanged, on means within bounds, and everything repeats."""

import numpy as np
import pytest
import torch

from plada.networks.augment import augment
from plada.networks.recipe import Recipe

OFF = Recipe(mirror=False, rotate=0, scale=1, stretch=0, shear=0, translate=0)


def images(n: int = 4, size: int = 12) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def run(recipe: Recipe, seed: int = 0, n: int = 4) -> torch.Tensor:
    return augment(images(n), recipe, torch.Generator().manual_seed(seed))


def test_switched_off_it_changes_nothing() -> None:
    np.testing.assert_allclose(run(OFF).numpy(), images().numpy(), atol=1e-5)


def test_mirror_turns_about_half_of_the_images_and_nothing_else() -> None:
    made, original = run(OFF.changed({"mirror": True}), n=200), images(200)
    same = torch.isclose(made, original, atol=1e-4).all(dim=(1, 2, 3))
    turned = torch.isclose(made, original.flip(3), atol=1e-4).all(dim=(1, 2, 3))
    assert bool((same ^ turned).all())
    assert 60 < int(turned.sum()) < 140


@pytest.mark.parametrize(
    "options", [{"rotate": 30.0}, {"scale": 2.0}, {"stretch": 0.5}, {"shear": 0.5}, {"translate": 0.3}]
)
def test_each_part_changes_every_image_and_repeats(options: dict[str, float]) -> None:
    recipe = OFF.changed(options)
    made = run(recipe)
    assert not torch.isclose(made, images(), atol=1e-3).all(dim=(1, 2, 3)).any()
    assert torch.equal(made, run(recipe))
    assert not torch.equal(made, run(recipe, seed=1))


def test_what_comes_from_outside_is_the_ground() -> None:
    dark = torch.full((2, 3, 16, 16), 0.25)
    dark[:, :, 6:10, 6:10] = 1.0
    made = augment(dark, OFF.changed({"translate": 0.4, "rotate": 40.0}), torch.Generator().manual_seed(3))
    assert float(made.min()) == pytest.approx(0.25, abs=1e-4)


def test_supersampled_images_come_out_at_their_size() -> None:
    assert run(OFF.changed({"supersample": 2})).shape == (4, 3, 6, 6)
    np.testing.assert_allclose(
        run(OFF.changed({"supersample": 2})).numpy(), torch.nn.functional.avg_pool2d(images(), 2).numpy(), atol=1e-5
    )
