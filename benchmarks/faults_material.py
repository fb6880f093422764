"""What the faults are tried on, made here: small pictures, a target, an index, payloads, models. Nothing is downloaded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from PIL import Image

import plada
from plada.trainer.run import RunOptions

IMAGES = 264  # an approximate index takes no fewer than 256
INDEX = "pictures"
RECIPE = {"epochs": 2, "batch_size": 16, "image_size": 16}


@dataclass(frozen=True, slots=True)
class Material:
    """Everything below `root`, by the names that `make` gave it; `home` holds the index of `pictures`."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def target(self) -> Path:
        return self.root / "shades"

    @property
    def index(self) -> Path:
        return self.home / "indexes" / INDEX

    def file(self, name: str) -> Path:
        """old.plada, new.plada, changes.plada, small.safetensors, linear.safetensors, key.pem, some.pack."""
        return self.root / name


def shape(rng: np.random.Generator, light: bool, side: int = 24) -> Image.Image:
    """A square, light on dark or dark on light, on some noise."""
    pixels = np.full((side, side, 3), 30 if light else 220) + rng.integers(-15, 16, (side, side, 3))
    top, left = rng.integers(2, side - 14, 2)
    pixels[top : top + 12, left : left + 12] += 180 if light else -180
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_images(root: Path, *, images: int = IMAGES) -> None:
    """`pictures`, the reference: folders a to c, PNG and JPEG; and `shades`, a target of two classes."""
    rng = np.random.default_rng(0)
    for number in range(images):
        path = root / "pictures" / "abc"[number % 3] / f"{number:04d}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape(rng, number % 2 == 0, 32).save(path)
    for part, count in (("train", 12), ("test", 6)):
        for name in ("bright", "dim"):
            for number in range(count):
                path = root / "shades" / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                shape(rng, name == "bright").save(path)


def selecting(target: str | Path) -> list[str | Path]:
    """Options of `plada select`, as typed: a rule that is not judged against others, and so many images."""
    return ["--index", INDEX, "--target", target, "--budget", "4kB", "--keep", "30%", "--rule", "nearest"]


def make(root: Path) -> Material:
    """All of it; some ten seconds."""
    made = Material(root)
    make_images(root)
    home = made.home
    plada.index(made.pictures, name=INDEX, encoder="gradients", home=home)
    for name, keep in (("old", "30%"), ("new", "40%")):
        plada.select(
            INDEX,
            target=made.target,
            budget="4kB",
            keep=keep,
            rule="nearest",
            out=made.file(f"{name}.plada"),
            home=home,
        )
    plada.diff(made.file("old.plada"), made.file("new.plada"), out=made.file("changes.plada"), home=home)
    plada.keygen(made.file("key.pem"))
    plada.make_pack(INDEX, out=made.file("some.pack"), home=home)
    for student in ("small_cnn", "linear"):
        plada.train(
            made.file("old.plada"), reference=made.pictures, student=student, home=home,
            recipe=RECIPE if student == "small_cnn" else None, out=made.file(f"{student.split('_')[0]}.safetensors"),
            run=RunOptions(restart=True),
        )  # fmt: skip
    return made


def fingerprint(value: Any) -> str:
    """BLAKE3 of plain values, arrays and tensors, however they are nested."""
    whole = blake3()
    _add(whole, value)
    return str(whole.hexdigest())


def _add(whole: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            whole.update(f"\0k{key}\0".encode())
            _add(whole, value[key])
    elif isinstance(value, bytes):
        whole.update(value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        whole.update(f"\0s{len(value)}\0".encode())
        for item in value:
            _add(whole, item)
    elif hasattr(value, "shape"):  # an array or a tensor
        array = np.ascontiguousarray(np.asarray(value))
        whole.update(f"\0a{array.dtype}{array.shape}\0".encode())
        whole.update(array.tobytes())
    else:
        whole.update(json.dumps(value, default=repr).encode())


def tree(place: Path) -> dict[str, str]:
    """Digest of every file at or below a place, by its path; empty where there is nothing."""
    if place.is_file():
        return {"": blake3(place.read_bytes()).hexdigest()}
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): blake3(path.read_bytes()).hexdigest() for path in files}
