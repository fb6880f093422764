"""A reference on this machine: the collection, and the manifest that identifies its images."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from plada.common.files import write_json
from plada.common.progress import Report, silent
from plada.errors import DataError, ReferenceMismatch
from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.manifest import Manifest, content_hash, key_id, load_manifest
from plada.sources.scan import scan_manifest
from plada.sources.storage import plain_name, slug

_SHOWN = 8  # bytes of an id that a message gives
_SAMPLE = 32  # images hashed again before a stored manifest is believed


@dataclass(frozen=True, slots=True)
class Reference:
    """A collection with its manifest.

    Attributes:
        name: What it is called.
        collection: The images.
        manifest: Key, size and content hash of every image.
        reused: The manifest was there, and not made now.
    """

    name: str
    collection: Collection
    manifest: Manifest
    reused: bool = False

    def __len__(self) -> int:
        return len(self.collection)

    def read(self, position: int) -> bytes:
        """Stored bytes of one image, hashed again and compared with the manifest.

        Args:
            position: Position of the image.

        Returns:
            The bytes.

        Raises:
            ReferenceMismatch: The bytes are not those of the manifest.
            DataError: The image cannot be read.
        """
        data = self.collection.read(position)
        wanted, found = self.manifest.hash_at(position), content_hash(data)
        if wanted != found:
            raise ReferenceMismatch(
                f"{self.collection.location}: image {position} ({self.collection.keys[position]}) has changed since the "
                f"manifest was made: expected {wanted.hex()}, found {found.hex()}. Restore it, or index again",
                wanted=wanted.hex(),
                found=found.hex(),
            )
        return data

    def image(self, position: int) -> Image.Image:
        """One decoded image.

        Args:
            position: Position of the image.

        Returns:
            A PIL image, RGB.

        Raises:
            Unreadable: It cannot be decoded.
            PladaError: As `read` raises.
        """
        return decode(self.read(position))


def manifest_folder(home: Path, collection: Collection) -> Path:
    """Where the manifest of a collection is kept."""
    return home / "references" / slug(collection.location)


def manifest_path(home: Path, collection: Collection) -> Path:
    """The manifest of a collection, whether it is there or not."""
    return manifest_folder(home, collection) / "manifest.parquet"


def save_reference(home: Path, name: str, collection: Collection, manifest: Manifest) -> None:
    """Note beside a manifest, which lies at `manifest_path`, where the images are."""
    note = {
        "name": name,
        "location": collection.location,
        "images": len(manifest),
        "key_id": manifest.key_id.hex(),
        "content_id": manifest.content_id.hex(),
    }
    write_json(manifest_folder(home, collection) / "reference.json", note)


def open_reference(
    collection: Collection, home: Path, *, name: str | None = None, report: Report = silent
) -> Reference:
    """A collection with its manifest: the stored one if it still fits, else one made now by hashing every image.

    A stored manifest fits when keys and sizes are the same and a seeded sample of images has the same hashes. The
    images that are used are hashed again when they are read (`Reference.read`). Without `name` the reference is called
    after its location.
    """
    name, path = name or plain_name(collection.location), manifest_path(home, collection)
    # A damaged manifest, or one of an older format, is made again like one that does not fit: it only describes the images.
    with contextlib.suppress(DataError):
        manifest = load_manifest(path)
        if _fits(manifest, collection):
            return Reference(name, collection, manifest, reused=True)
    manifest = scan_manifest(collection, path, report=report)
    save_reference(home, name, collection, manifest)
    return Reference(name, collection, manifest)


def find_reference(key: bytes, home: Path) -> str | None:
    """Location of a collection whose manifest is kept here and whose key id begins with `key`; None if there is none."""
    for path in sorted((home / "references").glob("*/reference.json")):
        note = json.loads(path.read_text())
        if bytes.fromhex(note["key_id"]).startswith(key):
            return str(note["location"])
    return None


def _fits(manifest: Manifest, collection: Collection) -> bool:
    if len(manifest) != len(collection) or manifest.key_id != key_id(collection.keys):
        return False
    if not same_sizes(manifest, collection):
        return False
    picks = np.random.default_rng(0).integers(len(manifest), size=min(_SAMPLE, len(manifest)))
    return all(content_hash(collection.read(int(p))) == manifest.hash_at(int(p)) for p in np.sort(picks))


def same_sizes(manifest: Manifest, collection: Collection) -> bool:
    """Whether every image of a collection with the manifest's keys has the manifest's size, as far as sizes are known."""
    at = 0
    for table in manifest.blocks(["size"]):
        known = collection.sizes[at : at + table.num_rows]
        if ((known >= 0) & (known != table.column(0).to_numpy())).any():
            return False
        at += table.num_rows
    return True


def check_identity(
    reference: Reference,
    *,
    images: int,
    key: bytes,
    content: bytes,
    same_keys: bool = False,
    who: str = "the payload",
    means: str = "labels a reference of",
) -> None:
    """Refuse a reference whose images are not those meant; `key` and `content` may be cut (a payload's 8 bytes). Messages say
    that `who` `means` so many images.

    Raises:
        ReferenceMismatch: another number of images, other keys, or (without `same_keys`) other bytes.
    """
    manifest = reference.manifest
    where = reference.collection.location
    if len(manifest) != images or manifest.key_id[: len(key)] != key:
        raise ReferenceMismatch(
            f"{where}: {who} {means} {images} images with key id {key[:_SHOWN].hex()}; here are {len(manifest)} "
            f"with key id {manifest.key_id[:_SHOWN].hex()}, first key '{manifest.row(0).key}'. Point --reference at the right collection",
            wanted=key.hex(),
            found=manifest.key_id.hex(),
        )
    if manifest.content_id[: len(content)] != content and not same_keys:
        raise ReferenceMismatch(
            f"{where}: the keys are those of {who}, but the images have other bytes (content id {content[:_SHOWN].hex()} is "
            f"meant, {manifest.content_id[:_SHOWN].hex()} is here). If this is a resized or re-encoded copy, say --same-keys",
            wanted=content.hex(),
            found=manifest.content_id.hex(),
        )
