"""Collections known by name, and the way from a name, a path or a file URL to a collection or a target."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from plada.errors import RequestError, UnknownName
from plada.sources.builtin import open_digits, open_glyphs
from plada.sources.collection import Collection
from plada.sources.food101 import open_food101
from plada.sources.forms import open_collection
from plada.sources.targets import Target, open_folder_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A registered collection. `images` and `classes` are what it should hold; `expects` is its form on disk."""

    role: str  # reference or target
    about: str
    images: int
    classes: int | None
    expects: str
    obtain: str
    built_in: bool = False


KNOWN: dict[str, Known] = {
    "glyphs": Known(
        role="reference", about="characters drawn with matplotlib's fonts", images=20_000, classes=None,
        expects="nothing: made on the fly", obtain="built in", built_in=True,
    ),
    "imagenet1k": Known(
        role="reference", about="ImageNet-1K, ILSVRC 2012 training images", images=1_281_167, classes=1000,
        expects="a folder, or a folder of per-synset tars", obtain="image-net.org, on request; non-commercial research",
    ),
    "imagenet21k": Known(
        role="reference", about="ImageNet-21K, fall 2011", images=14_197_122, classes=21_841,
        expects="a folder of per-synset tars (read without unpacking), or a folder",
        obtain="image-net.org, on request; non-commercial research",
    ),
    "digits": Known(
        role="target", about="handwritten digits of scikit-learn, 8x8", images=1_797, classes=10,
        expects="nothing: comes with scikit-learn", obtain="built in", built_in=True,
    ),
    "food101": Known(
        role="target", about="Food-101", images=101_000, classes=101,
        expects="images/CLASS/*.jpg with meta/train.txt and meta/test.txt (as published), or train/CLASS, test/CLASS",
        obtain="ETH Zurich, Computer Vision Lab",
    ),
    "cifar10": Known(
        role="target", about="CIFAR-10 as image files", images=60_000, classes=10,
        expects="train/CLASS/*, test/CLASS/*", obtain="University of Toronto, in image form",
    ),
}  # fmt: skip

_BUILT_IN_REFERENCES: dict[str, Callable[[dict[str, str]], Collection]] = {"glyphs": open_glyphs}
_BUILT_IN_TARGETS: dict[str, Callable[[], Target]] = {"digits": open_digits}


def data_folder(home: Path, name: str) -> Path:
    """Where a registered collection of files is looked for; a symbolic link will do."""
    return home / "datasets" / name


def open_source(spec: str | Path, home: Path) -> Collection:
    """The collection that a registered name, a path or a file:// URL stands for.

    A name counts as registered unless it has a path separator; `./glyphs` is always a path.

    Raises:
        UnknownName: neither registered nor a folder.
        RequestError: registered, but not on this machine.
        DataError: the files are no good (no image, duplicate keys, cut tars).
    """
    text = _local(spec)
    name, _, options = text.partition(":")
    if name in _BUILT_IN_REFERENCES:
        return _BUILT_IN_REFERENCES[name](_options(name, options))
    if text in _BUILT_IN_TARGETS:
        return _BUILT_IN_TARGETS[text]().train.collection
    return open_collection(_folder(text, "reference", home))


def open_target(spec: str | Path, home: Path) -> Target:
    """The target that a registered name, a path or a file:// URL stands for; raises as open_source does."""
    text = _local(spec)
    if text in _BUILT_IN_TARGETS:
        return _BUILT_IN_TARGETS[text]()
    root = _folder(text, "target", home)
    name = text if text in KNOWN else None
    if (root / "meta" / "train.txt").is_file():
        return open_food101(root, name=name)
    return open_folder_target(root, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """One registered collection; `present` says whether it can be used here, `path` where it is or is looked for."""

    name: str
    role: str
    about: str
    images: int
    classes: int | None
    present: bool
    path: str | None
    expects: str
    obtain: str
    indexed: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def list_datasets(home: Path) -> list[DatasetSummary]:
    """Every registered collection, in the order of KNOWN."""
    return [
        DatasetSummary(
            name=name,
            role=known.role,
            about=known.about,
            images=known.images,
            classes=known.classes,
            present=known.built_in or data_folder(home, name).is_dir(),
            path=None if known.built_in else str(data_folder(home, name)),
            expects=known.expects,
            obtain=known.obtain,
            indexed=(home / "indexes" / name / "index.json").exists(),
        )
        for name, known in KNOWN.items()
    ]


def _folder(text: str, role: str, home: Path) -> Path:
    if "/" not in text and text in KNOWN:
        known, folder = KNOWN[text], data_folder(home, text)
        if not folder.is_dir():
            raise RequestError(
                f"{text}: not on this machine; looked in {folder}. Put it there (or a link to it), or give the folder's "
                f"path instead of the name. Expected: {known.expects}. From: {known.obtain}"
            )
        return folder
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if path.exists() or "/" in text:
        raise RequestError(
            f"{text}: expected a folder of images or of tar files; {'this is a file' if path.exists() else 'there is none'}"
        )
    names = [name for name, known in KNOWN.items() if known.role == role]
    raise UnknownName(role, text, names, hint="A path to a folder does as well")


def _local(spec: str | Path) -> str:
    text = str(spec)
    if "://" not in text:
        return text
    url = urlparse(text)
    if url.scheme != "file":
        raise RequestError(
            f"{text}: only local paths and file:// URLs can be read so far. Mount or copy the collection"
        )
    return unquote(url.path)


def _options(name: str, text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if any(not equals for _, equals, _ in pairs):
        raise RequestError(f"{name}:{text}: expected {name}:OPTION=VALUE,...")
    return {key.strip(): value.strip() for key, _, value in pairs}
