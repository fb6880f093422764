"""Versions of fingerprints: whatever is cropped, one of them fits; and the nearest do not depend on how fingerprints come in."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, fingerprint
from plada.sources.leaks.matching import VERSIONS, Nearest, version_scores, versions_of
from tests.sources.leaks.test_leaks import scene


def cropped(image: Image.Image, share: float, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    size = [round(share * side) for side in image.size]
    left, top = (int(rng.integers(side - kept + 1)) for side, kept in zip(image.size, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))


@pytest.mark.parametrize("share", [0.9, 0.95])
@pytest.mark.parametrize("mirror", [False, True])
def test_one_version_fits_a_crop_whichever_side_is_cropped(share: float, mirror: bool) -> None:
    for seed in range(20):
        whole = scene(seed, (200, 160))
        part = cropped(ImageOps.mirror(whole) if mirror else whole, share, seed)
        for one, other, kind in ((whole, part, "inner"), (part, whole, "outer")):
            scores = version_scores(versions_of(one)[None], fingerprint(other)[None])[0]
            assert scores.max() > 0.9
            best = VERSIONS[int(scores.argmax())]
            assert (best.window.kind, best.mirror) == (kind, mirror)


def test_a_picture_without_contrast_resembles_nothing() -> None:
    flat = Image.new("RGB", (64, 64), (90, 90, 90))
    others = np.stack(
        [fingerprint(scene(seed)) for seed in range(10)] + [fingerprint(flat), np.zeros(FINGERPRINT_BYTES, np.uint8)]
    )
    versions = np.repeat(versions_of(flat)[None], len(others), axis=0)
    assert abs(version_scores(versions, others)).max() < 0.2


def test_the_nearest_are_the_same_in_blocks_of_any_size() -> None:
    fingerprints = np.stack([fingerprint(scene(seed)) for seed in range(60)])
    fingerprints[30:40] = fingerprints[20:30]  # equal scores: the lower position first
    versions = np.stack([versions_of(scene(seed)) for seed in range(20, 25)])
    found = []
    for size in (60, 7):
        nearest = Nearest(versions, 6, group=2)
        for start in range(0, 60, size):
            nearest.add(np.arange(start, min(start + size, 60)), fingerprints[start : start + size])
        found.append(nearest.positions)
    assert np.array_equal(found[0], found[1])
    assert found[0][:, :2].tolist() == [[number, number + 10] for number in range(20, 25)]
    every = [version_scores(np.repeat(one[None], 60, axis=0), fingerprints).max(axis=1) for one in versions]
    expected = [np.lexsort((np.arange(60), -scores.round(5)))[:6].tolist() for scores in every]
    assert found[0].tolist() == expected
