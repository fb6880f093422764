"""A reference's manifest and pack, brought from a catalogue into the home, each compared with its ids."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plada.common.progress import Report, silent
from plada.common.summary import Summary
from plada.errors import DataError, PayloadError, ReferenceMismatch, RequestError, UnknownName
from plada.payload.catalogue.document import Catalogue, PackFile, ReferenceEntry, StoredFile
from plada.payload.pack import copy_pack, find_pack, installed_path, read_pack
from plada.sources.manifest import load_manifest
from plada.sources.reference import kept_manifests, save_pulled_manifest
from plada.trainer.catalogue.home import State
from plada.trainer.catalogue.place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledReference(Summary):
    """A reference's files that were brought, or would be.

    Attributes:
        reference: Its name in the catalogue.
        images: Number of images.
        key_id, content_id: Its ids, hexadecimal.
        manifest: The manifest's file; None where the catalogue has none.
        packs: Files of its packs.
        bytes: Bytes that were fetched; 0 where all was here.
    """

    reference: str
    images: int
    key_id: str
    content_id: str
    manifest: str | None
    packs: tuple[str, ...]
    bytes: int


def pull_reference(
    name: str,
    catalogue: Catalogue,
    state: State,
    place: Place,
    *,
    home: Path,
    dry_run: bool = False,
    report: Report = silent,
) -> PulledReference:
    """Bring what a catalogue has of a reference and this home has not.

    Raises:
        UnknownName: no such reference. RequestError: the catalogue has neither manifest nor pack of it. ReferenceMismatch, PayloadError,
            DataError: a file is not what the catalogue says.
    """
    if name not in catalogue.references:
        raise UnknownName("reference of this catalogue", name, catalogue.references)
    entry = catalogue.references[name]
    if not entry.files_anywhere:
        raise RequestError(
            f"{name}: catalogue '{catalogue.name}' has neither its manifest nor a pack. Ask its owner to publish them"
        )
    wanted: list[StoredFile] = []
    manifest = _kept_manifest(entry, home)
    if entry.manifest is not None and manifest is None:
        wanted.append(entry.manifest)
    lacking = [pack for pack in entry.packs if not _has_pack(entry, pack, home)]
    size = sum(each.bytes for each in (*wanted, *lacking))
    if not dry_run:
        if wanted:
            manifest = _bring_manifest(name, entry, wanted[0], state, place, home, report)
        for pack in lacking:
            _bring_pack(name, entry, pack, state, place, home, report)
    packs = tuple(
        str(installed_path(home, bytes.fromhex(entry.key_id), bytes.fromhex(pack.pack_id))) for pack in entry.packs
    )
    return PulledReference(
        reference=name, images=entry.images, key_id=entry.key_id, content_id=entry.content_id,
        manifest=str(manifest) if manifest is not None else None, packs=packs, bytes=size,
    )  # fmt: skip


def _kept_manifest(entry: ReferenceEntry, home: Path) -> Path | None:
    """A manifest of exactly these images that is here already."""
    for kept in kept_manifests(home, bytes.fromhex(entry.key_id)):
        if kept.manifest.content_id.hex().startswith(entry.content_id) and len(kept.manifest) == entry.images:
            return kept.manifest.path
    return None


def _has_pack(entry: ReferenceEntry, pack: PackFile, home: Path) -> bool:
    with suppress(PayloadError, RequestError, ReferenceMismatch):
        return find_pack(home, bytes.fromhex(entry.key_id), bytes.fromhex(pack.pack_id)) is not None
    return False


def _bring_manifest(
    name: str, entry: ReferenceEntry, stored: StoredFile, state: State, place: Place, home: Path, report: Report
) -> Path:
    file = state.incoming / f"{stored.file}.parquet"
    place.fetch(stored, file, report=report)
    try:
        manifest = load_manifest(file)
        found = (len(manifest), manifest.key_id.hex(), manifest.content_id.hex())
        if found != (entry.images, entry.key_id, entry.content_id):
            raise ReferenceMismatch(
                f"{name}: the manifest that came is of {found[0]} images with key id {found[1]} and content id {found[2]}; the "
                f"catalogue says {entry.images}, {entry.key_id} and {entry.content_id}. Ask its owner",
                wanted=entry.key_id,
                found=found[1],
            )
        return save_pulled_manifest(home, name, file).path
    except (DataError, ReferenceMismatch):
        file.unlink(missing_ok=True)
        raise


def _bring_pack(
    name: str, entry: ReferenceEntry, stored: PackFile, state: State, place: Place, home: Path, report: Report
) -> None:
    file = state.incoming / f"{stored.file}.pack"
    place.fetch(stored, file, report=report)
    try:
        pack = read_pack(file)
        pack.check(key=bytes.fromhex(entry.key_id), images=entry.images)
        if pack.pack_id.hex() != stored.pack_id:
            raise ReferenceMismatch(
                f"{name}: the pack that came is {pack.pack_id.hex()}; the catalogue says {stored.pack_id}. Ask its owner",
                wanted=stored.pack_id,
                found=pack.pack_id.hex(),
            )
        copy_pack(pack, home)
    finally:
        file.unlink(missing_ok=True)
