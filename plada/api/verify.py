"""`plada verify`: are the images here the ones a manifest, a payload or an id speaks of?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from plada.common.files import home_directory
from plada.common.progress import Report, silent
from plada.errors import RequestError
from plada.reports.contact_sheet import contact_sheet
from plada.selection.leaks import LeakReport, find_reference_leaks
from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.leaks.leaks import Leak
from plada.sources.manifest import Manifest, key_id, load_manifest
from plada.sources.reference import manifest_path, open_reference, plain_name
from plada.sources.registry import open_source
from plada.sources.verify import SAMPLE, compare
from plada.trainer.payload_file import read_identity

_LEAST_HEX = 8
_PICTURED = 40  # pairs of a contact sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `plada verify` found. Counts are of images: `missing` and `added` here, of another size, of `other_bytes` among
    the `hashed`, `gone` (listed but unreadable). `ok` says that nothing differs; `advice` what to do where it does."""

    reference: str
    against: str
    mode: str
    ok: bool
    images: int
    expected: int | None
    missing: int
    added: int
    other_size: int
    other_bytes: int
    gone: int
    hashed: int
    first: str | None
    advice: str
    key_id: str
    content_id: str
    manifest: str
    leaks: LeakReport | None = None  # where they were asked for

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "leaks": self.leaks.to_dict() if self.leaks is not None else None}


def verify(
    reference: str | Path,
    *,
    against: str | Path | None = None,
    full: bool = False,
    sample: int = SAMPLE,
    leaks: str | Path | None = None,
    index: str | Path | None = None,
    sheet: str | Path | None = None,
    seed: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> Verification:
    """Compare a reference with its manifest here, or with another one's file, a payload, or an id in hexadecimal.

    A quick check compares the number of images, all keys and sizes, and the hashes of a seeded sample; `full` hashes every
    image. Where there is no manifest yet it is made, which reads every image once. `leaks` names a target whose test images
    are looked for in the reference (plada.selection.leaks), with the neighbours in `index`, or in the first that fits; pairs
    found go to the contact sheet `sheet`.

    Raises:
        RequestError: `against` is nothing that can be understood; a target without test images.
        PayloadError, DataError: `against` is damaged. ReferenceMismatch: `index` is of other images.
    """
    found = _verify(reference, against, full, sample, seed, home, report)
    if leaks is None:
        return found

    draw = partial(_write_sheet, Path(sheet)) if sheet is not None else None
    return replace(
        found, leaks=find_reference_leaks(reference, leaks, index=index, draw=draw, home=home, report=report)
    )


def _verify(
    reference: str | Path,
    against: str | Path | None,
    full: bool,
    sample: int,
    seed: int,
    home: str | Path | None,
    report: Report,
) -> Verification:
    if sample < 0:
        raise RequestError(f"sample = {sample}: expected the number of images to hash, 0 or more")
    root = home_directory(home)
    collection = open_source(reference, root)
    path = manifest_path(root, collection)
    kind, wanted = _against(against)
    if isinstance(wanted, Manifest) or (wanted is None and path.exists()):
        manifest = wanted or load_manifest(path)
        if full:
            manifest.check()
        return _compared(collection, manifest, kind, full, sample, seed, report)
    made = not path.exists()
    own = open_reference(plain_name(collection.location), collection, root, report=report).manifest
    if wanted is None:
        return _by_ids(collection, own, "nothing: there was no manifest, it was made now", "full", len(own), None)
    if full and not made:
        found = _compared(collection, own, kind, True, sample, seed, report)
        if not found.ok:
            return found
    return _identified(collection, own, kind, *wanted, "full" if full or made else "quick")


Identity = tuple[
    int | None, str, str
]  # images, beginnings of key id and content id; one id for either if only one is known


def _against(against: str | Path | None) -> tuple[str, Manifest | Identity | None]:
    if against is None:
        return "its manifest", None
    text = str(against)
    path = Path(text).expanduser()
    if path.is_file():
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            return f"manifest {path}", load_manifest(path)
        header, signature = read_identity(path)
        signed = f", signed by key {signature.fingerprint.hex()}, not checked" if signature is not None else ""
        return f"payload {path}{signed}", (header.reference, header.key_id.hex(), header.content_id.hex())
    if len(text) >= _LEAST_HEX and not set(text.lower()) - set("0123456789abcdef"):
        return f"id {text}", (None, text.lower(), "")
    raise RequestError(
        f"--against {text}: neither a manifest file, nor a payload file, nor an id of {_LEAST_HEX} or more hexadecimal digits"
    )


def _compared(
    collection: Collection, manifest: Manifest, kind: str, full: bool, sample: int, seed: int, report: Report
) -> Verification:
    found = compare(collection, manifest, sample=None if full else sample, seed=seed, report=report)
    advice = []
    if found.missing or found.gone:
        advice.append("restore what is missing, or point at the whole copy")
    if found.added:
        advice.append("take away what was added, or index this copy under a name of its own")
    if found.other_size or found.other_bytes:
        advice.append("fetch the changed files again; if this is a re-encoded copy, clients need --same-keys")
    return Verification(
        reference=collection.location,
        against=kind,
        mode="full" if full else "quick",
        ok=not found,
        images=len(collection),
        expected=len(manifest),
        first=found.first,
        advice="; ".join(advice),
        key_id=key_id(collection.keys).hex(),
        content_id="" if found else manifest.content_id.hex(),
        manifest=str(manifest.path),
        missing=found.missing,
        added=found.added,
        other_size=found.other_size,
        other_bytes=found.other_bytes,
        gone=found.gone,
        hashed=found.hashed,
    )


def _identified(
    collection: Collection, own: Manifest, kind: str, images: int | None, key: str, content: str, mode: str
) -> Verification:
    """Compare with ids alone: they cannot say which image differs, only that one does."""
    ids = (own.key_id.hex(), own.content_id.hex())
    wrong = ""
    if images is not None and images != len(own):
        wrong = f"{images} images are meant, {len(own)} are here"
    elif content and not ids[0].startswith(key):
        wrong = f"key id {key} is meant, {ids[0][: len(key)]} is here: other images, or other names"
    elif content and not ids[1].startswith(content):
        wrong = f"content id {content} is meant, {ids[1][: len(content)]} is here: the same names, other bytes"
    elif not content and not any(known.startswith(key) for known in ids):
        wrong = f"id {key} is meant; here are key id {ids[0]} and content id {ids[1]}"
    return _by_ids(collection, own, kind, mode, images, wrong or None)


def _by_ids(
    collection: Collection, own: Manifest, kind: str, mode: str, images: int | None, wrong: str | None
) -> Verification:
    return Verification(
        reference=collection.location,
        against=kind,
        mode=mode,
        ok=wrong is None,
        images=len(own),
        expected=images,
        missing=0,
        added=0,
        other_size=0,
        other_bytes=0,
        gone=0,
        hashed=len(own) if mode == "full" else 0,
        first=wrong,
        advice="get the other side's manifest and give it as --against: it tells which images differ" if wrong else "",
        key_id=own.key_id.hex(),
        content_id=own.content_id.hex(),
        manifest=str(own.path),
    )


def _write_sheet(path: Path, found: Sequence[Leak], tests: Collection, reference: Collection, title: str) -> None:
    """Pairs to look at, test image on the left: what the check found is for a person to judge."""
    rows = [
        (
            f"{leak.test_key} = {leak.key} ({leak.change or leak.kind}, {leak.score:.2f})",
            [decode(tests.read(leak.test)), decode(reference.read(leak.position))],
        )
        for leak in found[:_PICTURED]
    ]
    contact_sheet(rows, path, title=f"{title}: {len(rows)} of {len(found)} leaks")
