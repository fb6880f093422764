"""`plada.verify`: whether the images here are those that a manifest, a payload or an id describes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from plada.common.files import home_directory, local_place
from plada.common.outputs import check_outputs
from plada.common.progress import Report, silent, with_heartbeat
from plada.common.summary import shared_fields
from plada.common.units import check_seed
from plada.errors import RequestError
from plada.payload.container import MAGIC
from plada.reports.contact_sheet import contact_sheet
from plada.selection.leaks import LeakReport, find_reference_leaks
from plada.sources.collection import Collection
from plada.sources.compare import SAMPLE, Differences, compare
from plada.sources.decode import decode
from plada.sources.leaks.leaks import Leak
from plada.sources.manifest import Manifest, key_id, load_manifest
from plada.sources.reference import manifest_path, open_reference
from plada.sources.registry import open_source
from plada.sources.unreadable import UnreadableGroup
from plada.trainer.catalogue.home import find_kept
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import read_identity

_MIN_HEX = 8
_MAX_PAIRS = 40  # of a contact sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `plada.verify` found. Counts are of images.

    Attributes:
        reference: Where the images are.
        against: What they were compared with.
        mode: "quick" or "full".
        ok: Nothing differs.
        images: Images that are here.
        expected: Images that should be here; None where that is not known.
        missing: Expected and not here.
        added: Here and not expected.
        other_size: Of another size in bytes.
        other_bytes: Of other bytes, among the `hashed`.
        gone: Listed, but unreadable.
        hashed: Compared by their hashes.
        first: The first difference in words; None if there is none.
        advice: What to do where something differs.
        key_id: Key id of the images here, hexadecimal.
        content_id: Their content id, hexadecimal; empty where it is not known.
        manifest: The manifest file.
        unreadable: Unreadable images by reason, with one example of each: those that the manifest says cannot be decoded, and
            those that are `gone`.
        leaks: The leak report, where one was asked for.
    """

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
    unreadable: tuple[UnreadableGroup, ...] = ()
    leaks: LeakReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "leaks": self.leaks.to_dict() if self.leaks is not None else None}


@with_heartbeat
def verify(
    reference: str | Path,
    *,
    against: str | Path | None = None,
    require_signature: str | Path | None = None,
    full: bool = False,
    sample: int = SAMPLE,
    leaks: str | Path | None = None,
    index: str | Path | None = None,
    sheet: str | Path | None = None,
    seed: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> Verification:
    """Check that a reference holds the images that a manifest, a payload or an id describes.

    A quick check compares the number of images, all keys and sizes, and the hashes of a sample. Where there is no manifest
    yet it is made, which reads every image once.

    Args:
        reference: A registered name, a path or an fsspec URL.
        against: A manifest file, a payload file, or an id in hexadecimal. None: the manifest that is kept here.
        require_signature: A public key that must have signed the payload `against`.
        full: Hash every image.
        sample: Images that a quick check hashes.
        leaks: A target; near copies of its test images are looked for in the reference.
        index: The index whose neighbours are compared too. None: the first one of these images.
        sheet: A PNG to write, with the leaks as pairs of pictures.
        seed: Decides which images a quick check hashes.
        home: Where manifests are kept. None: $PLADA_HOME, or the user's data folder.
        report: Called with the progress.

    Returns:
        What differs, and what to do about it.

    Raises:
        RequestError: `against` cannot be understood, or the target has no test images.
        PayloadError: `against` is a damaged payload.
        DataError: `against` is a damaged manifest.
        ReferenceMismatch: `index` is of other images.

    Examples:
        >>> import plada
        >>> plada.verify("glyphs:count=1500", against="digits.plada").ok
        True
    """
    if sample < 0:
        raise RequestError(f"sample = {sample}: expected the number of images to hash, 0 or more")
    check_outputs(sheet)
    check_seed(seed)
    root = home_directory(home)
    collection = open_source(reference, root, report=report)
    kind, wanted = _described(against, require_signature, PayloadContext(home=root, reference=reference))
    check = partial(_compare, collection, sample=None if full else sample, seed=seed, report=report)
    path = manifest_path(root, collection)
    known = path.exists()
    if isinstance(wanted, Manifest) or (wanted is None and known):
        manifest = wanted or load_manifest(path)
        if full:
            manifest.check()
        found = check(manifest, kind)
    else:
        own = open_reference(collection, root, report=report).manifest
        if wanted is None:
            new = "nothing: there was no manifest, it was made now"
            found = _identified(collection, own, new, full=True, expected=len(own), wrong="")
        else:
            wrong = _difference(own, *wanted)
            found = _identified(collection, own, kind, full=full or not known, expected=wanted[0], wrong=wrong)
            if full and known and not (compared := check(own, kind)).ok:
                found = compared
    if leaks is None:
        return found
    draw = partial(_write_sheet, Path(sheet)) if sheet is not None else None
    return replace(
        found, leaks=find_reference_leaks(reference, leaks, index=index, draw=draw, home=home, report=report)
    )


# Images (None where unknown), and the beginnings of key id and content id; a single id may be either.
Identity = tuple[int | None, str, str]


def _is_payload(path: Path) -> bool:
    """Whether a file begins as payloads do; other files have no signature."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _described(
    against: str | Path | None, key: str | Path | None, context: PayloadContext
) -> tuple[str, Manifest | Identity | None]:
    """What the images are compared with, in words and as it is."""
    text = local_place(against if against is not None else "")
    kept = find_kept(text, context.home)
    path = kept[0].file(kept[1]) if kept is not None else Path(text).expanduser()
    if key is not None and (against is None or not _is_payload(path)):
        raise RequestError("--require-signature is for a payload: name one as --against, or leave it out")
    if against is None:
        return "its manifest", None
    if path.is_file():
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            return f"manifest {path}", load_manifest(path)
        header, signature = read_identity(text if kept is not None else path, key, context=context)
        checked = "checked" if key is not None else "not checked"
        signed = f", signed by key {signature.fingerprint.hex()}, {checked}" if signature is not None else ""
        return f"payload {path}{signed}", (header.reference, header.key_id.hex(), header.content_id.hex())
    if len(text) >= _MIN_HEX and not set(text.lower()) - set("0123456789abcdef"):
        return f"id {text}", (None, text.lower(), "")
    raise RequestError(
        f"--against {text}: neither a manifest file, nor a payload file, nor an id of {_MIN_HEX} or more hexadecimal digits"
    )


def _compare(
    collection: Collection, manifest: Manifest, against: str, *, sample: int | None, seed: int, report: Report
) -> Verification:
    """Compare image by image."""
    found = compare(collection, manifest, sample=sample, seed=seed, report=report)
    advice = []
    found.unreadable.add_manifest(manifest)
    if found.missing or found.gone:
        advice.append("restore what is missing, or point at the whole copy")
    if found.added:
        advice.append("take away what was added, or index this copy under a name of its own")
    if found.other_size or found.other_bytes:
        advice.append("fetch the changed files again; if this is a re-encoded copy, clients need --same-keys")
    return Verification(
        reference=collection.location,
        against=against,
        mode="full" if sample is None else "quick",
        ok=not found,
        images=len(collection),
        expected=len(manifest),
        advice="; ".join(advice),
        key_id=key_id(collection.keys).hex(),
        content_id="" if found else manifest.content_id.hex(),
        manifest=str(manifest.path),
        **{**shared_fields(found, Verification), "unreadable": found.unreadable.groups()},
    )


def _difference(own: Manifest, images: int | None, key: str, content: str) -> str:
    """How ids differ from those of a manifest; empty where they agree. Ids cannot say which image differs."""
    ids = (own.key_id.hex(), own.content_id.hex())
    if images is not None and images != len(own):
        return f"{images} images are meant, {len(own)} are here"
    if content and not ids[0].startswith(key):
        return f"key id {key} is meant, {ids[0][: len(key)]} is here: other images, or other names"
    if content and not ids[1].startswith(content):
        return f"content id {content} is meant, {ids[1][: len(content)]} is here: the same names, other bytes"
    if not content and not any(known.startswith(key) for known in ids):
        return f"id {key} is meant; here are key id {ids[0]} and content id {ids[1]}"
    return ""


def _identified(
    collection: Collection, own: Manifest, against: str, *, full: bool, expected: int | None, wrong: str
) -> Verification:
    """What a comparison of ids found; `wrong` is empty where they agree."""
    advice = "get the other side's manifest and give it as --against: it tells which images differ"
    found = Differences(hashed=len(own) if full else 0, first=wrong or None)
    found.unreadable.add_manifest(own)
    return Verification(
        reference=collection.location,
        against=against,
        mode="full" if full else "quick",
        ok=not wrong,
        images=len(own),
        expected=expected,
        advice=advice if wrong else "",
        key_id=own.key_id.hex(),
        content_id=own.content_id.hex(),
        manifest=str(own.path),
        **{**shared_fields(found, Verification), "unreadable": found.unreadable.groups()},
    )


def _write_sheet(path: Path, found: Sequence[Leak], tests: Collection, reference: Collection, title: str) -> None:
    """Pairs to look at, test image on the left: what the check found is for a person to judge."""
    rows = [
        (
            f"{leak.test_key} = {leak.key} ({leak.change or leak.kind}, {leak.score:.2f})",
            [decode(tests.read(leak.test)), decode(reference.read(leak.position))],
        )
        for leak in found[:_MAX_PAIRS]
    ]
    contact_sheet(rows, path, title=f"{title}: {len(rows)} of {len(found)} leaks")
