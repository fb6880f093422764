"""A reference on this machine: the collection, and the manifest that identifies its images."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from plada.common.arrays import I64
from plada.common.checksums import read_sealed_json, write_sealed_json
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError, ReferenceMismatch
from plada.sources.collection import Collection
from plada.sources.compare import sample_positions
from plada.sources.decode import decode
from plada.sources.leaks.fingerprints import Fingerprints
from plada.sources.manifest import Manifest, content_hash, key_id, load_manifest
from plada.sources.scan import scan_manifest
from plada.sources.storage import plain_name, slug

_SHOWN = 8  # bytes of an id that a message gives
_SAMPLE = 32  # images hashed again before a stored manifest is believed


@dataclass(frozen=True, slots=True, repr=False)
class Reference:
    """A collection with its manifest.

    Attributes:
        name: What it is called.
        collection: The images.
        manifest: Key, size and content hash of every image.
        reused: The manifest was there, and not made now.
        fingerprints: Gives what an index keeps of images at rising positions int64 [k], so that none is decoded for it; None
            where no index opened this reference, or where it keeps none.
    """

    name: str
    collection: Collection
    manifest: Manifest
    reused: bool = False
    fingerprints: Callable[[I64], Fingerprints] | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.collection)

    def __repr__(self) -> str:
        where, key = self.collection.location, self.manifest.key_id[:_SHOWN].hex()
        return f"<Reference {self.name}: {len(self)} images of {where}, key id {key}>"

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


def manifest_folder(home: Path, collection: Collection | str) -> Path:
    """Where the manifest of a collection, or of the one at a location, is kept."""
    return home / "references" / slug(collection if isinstance(collection, str) else collection.location)


def manifest_path(home: Path, collection: Collection) -> Path:
    """The manifest of a collection, whether it is there or not."""
    return manifest_folder(home, collection) / "manifest.parquet"


def keep_manifest(path: Path) -> None:
    """Keep the manifest at `path` under its content id too, before another takes its place: payloads of its images need it."""
    with contextlib.suppress(DataError):
        kept = path.with_name(f"manifest-{load_manifest(path).content_id.hex()}.parquet")
        if not kept.exists():
            with contextlib.suppress(OSError):
                os.link(path, kept)
                return
            shutil.copyfile(path, kept)


def save_reference(home: Path, name: str, collection: Collection | str, manifest: Manifest) -> None:
    """Note beside a manifest, which lies at `manifest_path`, where the images are."""
    note = {
        "name": name,
        "location": collection if isinstance(collection, str) else collection.location,
        "images": len(manifest),
        "key_id": manifest.key_id.hex(),
        "content_id": manifest.content_id.hex(),
    }
    folder = manifest_folder(home, collection)
    write_sealed_json(folder / "reference.json", note)
    (folder / f"manifest-{manifest.content_id.hex()}.parquet").unlink(missing_ok=True)  # it is manifest.parquet now


def open_reference(
    collection: Collection, home: Path, *, name: str | None = None, report: Report = silent
) -> Reference:
    """A collection with its manifest: a stored one that still fits, else one made now by hashing every image.

    A stored manifest fits when keys and sizes are the same and a seeded sample of images has the same hashes. The
    images that are used are hashed again when they are read (`Reference.read`). Without `name` the reference is called
    after its location.
    """
    name, path = name or plain_name(collection.location), manifest_path(home, collection)
    # A damaged manifest, or one of an older format, is made again like one that does not fit: it only describes the images.
    for manifest in manifests_in(path.parent):
        with contextlib.suppress(DataError):
            if _fits(manifest, collection):
                return Reference(name, collection, manifest, reused=True)
    keep_manifest(path)
    manifest = scan_manifest(collection, path, report=report)
    save_reference(home, name, collection, manifest)
    return Reference(name, collection, manifest)


def manifests_in(folder: Path, passed_over: list[str] | None = None) -> Iterator[Manifest]:
    """The manifests that are kept of one place: that of its images when they were last read, then those of earlier ones.

    A damaged file is passed over and named in `passed_over`.
    """
    earlier = sorted(folder.glob("manifest-*.parquet"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (folder / "manifest.parquet", *earlier):
        if path.exists():
            try:
                yield load_manifest(path)
            except DataError as err:
                if passed_over is not None:
                    passed_over.append(str(err))


@dataclass(frozen=True, slots=True)
class KeptManifest:
    """A manifest that is kept here, and the location of the images that it was made of."""

    location: str
    manifest: Manifest

    @property
    def is_there(self) -> bool:
        """Whether the location still is, as far as that can be told without listing it."""
        place = self.location
        if not place:  # it was pulled from a catalogue
            return False
        return not place.startswith(("/", "~")) or any(sign in place for sign in "*?[") or Path(place).exists()


def kept_manifests(home: Path, key: bytes, passed_over: list[str] | None = None) -> Iterator[KeptManifest]:
    """Every manifest below a home whose key id begins with `key`; records that are damaged are named in `passed_over`."""
    for path in sorted((home / "references").glob("*/reference.json")):
        try:
            location = str(read_sealed_json(path)["location"])
        except (OSError, ValueError, KeyError, TypeError) as err:
            if passed_over is not None:
                passed_over.append(f"{path}: cannot be read ({err}). Delete it; `plada verify` makes it again")
            continue
        for manifest in manifests_in(path.parent, passed_over):
            if manifest.key_id.startswith(key):
                yield KeptManifest(location, manifest)


def pulled_manifest(home: Path, key: bytes, content: bytes) -> Manifest | None:
    """The manifest of a reference that was pulled from a catalogue, by its ids, which may be cut; None where there is none."""
    found = (kept.manifest for kept in kept_manifests(home, key) if not kept.location)
    return next((manifest for manifest in found if manifest.content_id.startswith(content)), None)


def save_pulled_manifest(home: Path, name: str, file: Path) -> Manifest:
    """Keep the manifest in `file`, which is moved, for a reference whose images may be anywhere.

    Raises:
        DataError: its rows do not have the ids that it names.
    """
    manifest = load_manifest(file)
    manifest.check()
    folder = home / "references" / f"pulled-{manifest.content_id.hex()}"
    folder.mkdir(parents=True, exist_ok=True)
    place = file.replace(folder / "manifest.parquet")
    ids = {"key_id": manifest.key_id.hex(), "content_id": manifest.content_id.hex()}
    write_sealed_json(folder / "reference.json", {"name": name, "location": "", "images": len(manifest), **ids})
    return load_manifest(place)


def find_reference(key: bytes, home: Path, *, content: bytes = b"", report: Report = silent) -> str | None:
    """Location of a collection whose manifest is kept here and whose key id begins with `key`; None if there is none.

    One whose content id begins with `content` goes before one with the same keys alone. Places that are gone and damaged
    records are passed over; the latter are said.
    """
    passed_over: list[str] = []
    there = [kept for kept in kept_manifests(home, key, passed_over) if kept.is_there]
    for text in passed_over:
        Tracker("find", None, report).say(text)
    best = max(there, key=lambda kept: kept.manifest.content_id.startswith(content), default=None)
    return best.location if best is not None else None


def _fits(manifest: Manifest, collection: Collection) -> bool:
    if len(manifest) != len(collection) or manifest.key_id != key_id(collection.keys):
        return False
    if not same_sizes(manifest, collection):
        return False
    picks = sample_positions(len(manifest), _SAMPLE, 0).tolist()
    return all(content_hash(collection.read(place)) == manifest.hash_at(place) for place in picks)


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
    """Refuse a reference whose images are not those meant; `key` and `content` may be cut (a payload's 8 bytes).
    Messages say that `who` `means` so many images. Raises ReferenceMismatch: another number of images, other keys, or
    (without `same_keys`) other bytes."""
    manifest = reference.manifest
    where = reference.collection.location
    if len(manifest) != images or manifest.key_id[: len(key)] != key:
        raise ReferenceMismatch(
            f"{where}: {who} {means} {images} images with key id {key[:_SHOWN].hex()}; here are {len(manifest)} "
            f"with key id {manifest.key_id[:_SHOWN].hex()}, first key '{manifest.row(0).key}'. Point --reference at the right "
            "collection; if this copy has lost images, get the server's manifest and say --manifest FILE --skip-changed",
            wanted=key.hex(),
            found=manifest.key_id.hex(),
        )
    if manifest.content_id[: len(content)] != content and not same_keys:
        raise ReferenceMismatch(
            f"{where}: the keys are those of {who}, but the images have other bytes (content id {content[:_SHOWN].hex()} is "
            f"meant, {manifest.content_id[:_SHOWN].hex()} is here). If this is a resized or re-encoded copy, say --same-keys; if "
            "a few images have changed, get the server's manifest and say --manifest FILE --skip-changed",
            wanted=content.hex(),
            found=manifest.content_id.hex(),
        )
