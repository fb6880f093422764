"""Near copies of test images in a reference: each kind is found, and pictures that are merely alike are not."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from plada.sources.collection import Collection
from plada.sources.formats.folder import open_folder
from plada.sources.leaks.fingerprints import Fingerprints, scan_fingerprints
from plada.sources.leaks.leaks import NEAR_COPY, SAME_BYTES, Leaks, find_leaks, read_tests

REFERENCE, TESTS = 120, 12


def scene(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A picture with outlines, areas and some texture, another one for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(40, 215, (3, 4, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = rng.integers(-20, size[0]), rng.integers(-20, size[1])
        box = (int(left), int(top), int(left + rng.integers(8, 50)), int(top + rng.integers(8, 50)))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=tuple(rng.integers(0, 255, 3).tolist()))
    return image


def stored(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 90} if form == "JPEG" else {}) | options)
    return buffer.getvalue()


def keep(root: Path, images: dict[str, bytes]) -> Collection:
    root.mkdir()
    for name, data in images.items():
        (root / name).write_bytes(data)
    return open_folder(root)


@pytest.fixture
def references(tmp_path: Path) -> dict[str, bytes]:
    return {f"{number:03d}.jpg": stored(scene(number)) for number in range(REFERENCE)}


def leaks_of(tests: Collection, reference: Collection, **options: Any) -> Leaks:
    fingerprints, _ = scan_fingerprints(reference, range(len(reference)))
    blocks = (
        Fingerprints(fingerprints.positions[rows], fingerprints.hashes[rows], fingerprints.fingerprints[rows])
        for rows in (slice(at, at + 50) for at in range(0, len(reference), 50))
    )
    return find_leaks(read_tests(tests, np.arange(len(tests))), reference, blocks, **options)


def corner(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 10, height // 10, width, height))


def area(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((2, 3, 2 + round(0.95 * width), 3 + round(0.95 * height))).resize((width, height))


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], dict[str, Any], str]] = {
    "jpeg": (lambda image: image, {"quality": 50}, ""),
    "png": (lambda image: image, {"form": "PNG"}, ""),
    "resized": (lambda image: image.resize((64, 64)).resize(image.size), {}, ""),
    "small": (lambda image: image.resize((48, 40)), {}, ""),
    "corner": (corner, {}, "cropped"),
    "area": (area, {}, "cropped"),
    "mirrored": (ImageOps.mirror, {}, "mirrored"),
    "flipped": (ImageOps.flip, {}, "flipped"),
    "turned": (lambda image: image.rotate(180), {}, "mirrored, flipped"),
    "everything": (lambda image: ImageOps.mirror(corner(image)), {"quality": 50}, "mirrored, cropped"),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("copied", ["reference", "test"])
def test_every_copy_is_found_and_nothing_else(
    kind: str, copied: str, references: dict[str, bytes], tmp_path: Path
) -> None:
    change, options, said = CHANGES[kind]
    names = sorted(references)[:TESTS]
    changed = {name: stored(change(Image.open(io.BytesIO(references[name]))), **options) for name in names}
    originals = {name: references[name] for name in names}
    if copied == "test":
        tests, reference = changed, references
    else:
        tests, reference = originals, {**references, **changed}
    strangers = {f"x{number}.jpg": stored(scene(1000 + number)) for number in range(TESTS)}
    found = leaks_of(keep(tmp_path / "tests", {**tests, **strangers}), keep(tmp_path / "reference", reference))
    assert [(leak.test_key, leak.key) for leak in found.found] == [(name[:3], name[:3]) for name in names]
    assert {leak.kind for leak in found.found} == {NEAR_COPY}
    assert {leak.change for leak in found.found} == {said}
    assert (found.tested, found.compared, found.unreadable, found.unread) == (2 * TESTS, REFERENCE, 0, 0)


def test_the_same_bytes_are_told_apart(references: dict[str, bytes], tmp_path: Path) -> None:
    tests = {"a.jpg": references["007.jpg"], "b.jpg": stored(scene(8), quality=70)}
    found = leaks_of(keep(tmp_path / "tests", tests), keep(tmp_path / "reference", references)).found
    assert [(leak.test_key, leak.key, leak.kind) for leak in found] == [
        ("a", "007", SAME_BYTES), ("b", "008", NEAR_COPY),
    ]  # fmt: skip
    assert found[0].score == 1.0 and found[0].position == 7


def test_plain_pictures_are_copies_of_nothing_but_themselves(tmp_path: Path) -> None:
    ramp = np.linspace(0, 12, 64)[None, :, None] + np.zeros((64, 64, 3))
    plain = {
        "black": np.zeros((64, 64, 3)),
        "grey": np.full((64, 64, 3), 128.0),
        "sky": 180 + ramp,
        "dusk": 60 + 3 * ramp,
        "noise": 100 + np.random.default_rng(0).integers(0, 3, (64, 64, 3)),
    }
    images = {name: Image.fromarray(pixels.astype(np.uint8)) for name, pixels in plain.items()}
    reference = {f"{name}.jpg": stored(image) for name, image in images.items()}
    tests = {
        "other.jpg": stored(Image.fromarray(np.full((64, 64, 3), 20, np.uint8))),
        "same.jpg": reference["black.jpg"],
    }
    tests["slope.jpg"] = stored(Image.fromarray((160 + 2 * ramp.transpose(1, 0, 2)).astype(np.uint8)))
    found = leaks_of(keep(tmp_path / "tests", tests), keep(tmp_path / "reference", reference))
    assert [(leak.test_key, leak.key, leak.kind) for leak in found.found] == [("same", "black", SAME_BYTES)]


def test_brightness_alone_does_not_make_two_pictures_alike(tmp_path: Path) -> None:
    """One outline, laid over another, correlates; what else differs must count."""

    def disc(ground: tuple[int, int, int], fill: tuple[int, int, int]) -> bytes:
        image = Image.new("RGB", (64, 64), ground)
        ImageDraw.Draw(image).ellipse((8, 8, 56, 56), fill=fill)
        return stored(image)

    tests, reference = {"a.jpg": disc((200, 210, 220), (20, 30, 60))}, {"b.jpg": disc((250, 120, 90), (90, 10, 120))}
    assert not leaks_of(keep(tmp_path / "tests", tests), keep(tmp_path / "reference", reference)).found


def test_unreadable_images_are_left_out_and_counted(references: dict[str, bytes], tmp_path: Path) -> None:
    tests = {"a.jpg": stored(scene(3), quality=60), "b.jpg": b"no image", "c.jpg": b""}
    reference = keep(tmp_path / "reference", {**references, "bad.jpg": b"no image either"})
    fingerprints, _ = scan_fingerprints(reference, range(len(reference)))
    (tmp_path / "reference" / "003.jpg").unlink()
    read = read_tests(keep(tmp_path / "tests", tests), np.arange(3))
    found = find_leaks(read, reference, [fingerprints])
    assert (found.tested, found.unreadable, found.unread, found.found) == (1, 2, 1, ())


def test_neighbours_are_candidates_too(references: dict[str, bytes], tmp_path: Path) -> None:
    tests = keep(tmp_path / "tests", {"a.jpg": stored(scene(5), quality=50), "b.jpg": stored(scene(6), quality=50)})
    reference, unknown = keep(tmp_path / "reference", references), list[Fingerprints]()
    given = np.array([[4, 5, -1], [7, 8, 9]])
    found = find_leaks(read_tests(tests, np.arange(2)), reference, unknown, neighbours=given)
    assert [(leak.test_key, leak.key) for leak in found.found] == [("a", "005")]


def test_no_test_image_is_no_failure(references: dict[str, bytes], tmp_path: Path) -> None:
    tests = keep(tmp_path / "tests", {"a.jpg": b"no image"})
    found = leaks_of(tests, keep(tmp_path / "reference", references))
    assert (found.found, found.tested, found.unreadable) == ((), 0, 1)


def test_real_images(shared: Path, tmp_path: Path) -> None:
    """What the benchmark does at length, on a few hundred real images."""
    import pyarrow.parquet as pq

    table = pq.read_table(shared / "reference.parquet").slice(0, 600)
    data = {f"{number:03d}.jpg": image for number, image in enumerate(table.column("image").to_pylist())}
    tests = {
        name: stored(ImageOps.mirror(Image.open(io.BytesIO(data[name])).convert("RGB")), quality=50)
        for name in list(data)[::6]
    }
    kept = {name: image for name, image in data.items() if int(name[:3]) < 300}
    found = leaks_of(keep(tmp_path / "tests", tests), keep(tmp_path / "reference", kept)).found
    pairs = {(leak.test_key, leak.key) for leak in found}
    assert {(name[:3], name[:3]) for name in tests if name in kept} <= pairs
    assert not [pair for pair in pairs if pair[0] != pair[1]]
