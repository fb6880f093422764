"""Which images of a reference, or of a selection, are copies of a target's test images.

The comparison itself is in plada/sources/leaks; an index adds candidates to it, the nearest neighbours of test images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.arrays import I64
from plada.common.checksums import append_digest, ends_with_digest
from plada.common.files import home_directory, whole_file
from plada.common.progress import Clock, Report, Tracker, silent
from plada.errors import PladaError, ReferenceMismatch, RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.index import Index, indexes_that, open_index
from plada.retrieval.knn import exact_search
from plada.selection.choose import Draft
from plada.selection.corrections import without
from plada.sources.collection import Collection
from plada.sources.decode import load_pixels
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, Fingerprints, collection_fingerprints, scan_fingerprints
from plada.sources.leaks.leaks import SAME_BYTES, Leak, TestImages, find_leaks, read_tests
from plada.sources.manifest import binary_rows
from plada.sources.reference import Reference, manifest_folder, open_reference
from plada.sources.registry import open_source, open_target
from plada.sources.targets.target import Split

Draw = Callable[[Sequence[Leak], Collection, Collection, str], None]

NEIGHBOURS = 8  # candidates a test image that an index adds
_BLOCK = 8192
_EMBEDDED = 64
_CHOSEN = 1 << 22  # chosen images whose fingerprints are read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """What a leak check found. `images` of the reference were compared with `tested` test images; `unreadable` test
    images and `unread` candidates of the reference were left out. `index` is the one whose neighbours were looked at
    too; where there is none, `note` says why."""

    reference: str
    target: str
    images: int
    tested: int
    unreadable: int
    unread: int
    same_bytes: int
    near_copies: int
    leaking_tests: int
    leaks: tuple[Leak, ...]
    index: str | None
    note: str
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "leaks": [asdict(leak) for leak in self.leaks]}


def find_reference_leaks(
    reference: str | Path,
    target: str | Path,
    *,
    index: str | Path | None = None,
    draw: Draw | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> LeakReport:
    """Look for copies of a target's test images in a reference: the same bytes, re-encoded, resized, cropped by a tenth,
    mirrored or flipped.

    The fingerprints of all images are kept beside the reference's manifest; the first check takes them from an index of these
    images, or makes them, which is one pass of decoding. Neighbours by embedding are candidates too where an index of the same images is here: `index`, or the
    first one found.

    `draw` is called with the leaks, the collections of the test images and of the reference, and a title.

    Raises:
        RequestError: the target has no test images. ReferenceMismatch: `index` was made of other images.
        Interrupted: stopped while the fingerprints were computed; the same call goes on.
    """
    root, clock = home_directory(home), Clock()
    with clock("load"):
        task = open_target(target, root)
        if task.test is None or not len(task.test):
            raise RequestError(f"target {task.name}: has no test images; there is nothing that could leak")
        collection = open_source(reference, root, report=report)
        opened = open_reference(collection, root, report=report)
    with clock("looks"):
        path = manifest_folder(root, collection) / f"looks-{opened.manifest.content_id.hex()[:16]}.bin"
        if not ends_with_digest(path, len(collection) * FINGERPRINT_BYTES):
            if path.exists():
                Tracker("looks", len(collection), report).say(f"{path}: its checksum is wrong; it is made again")
                path.unlink()
            _copy_fingerprints(opened, root, path)
        fingerprints = collection_fingerprints(collection, path, report=report)
    with clock("tests"):
        tests = read_tests(task.test.collection, task.test.positions, report=report)
    with clock("neighbours"):
        neighbours, used, note = _neighbours(opened, index, root, task.test, tests, report)
    with clock("compare"):
        comparison = find_leaks(tests, collection, _blocks(opened, fingerprints), neighbours=neighbours, report=report)
    if draw is not None:
        draw(comparison.found, task.test.collection, collection, f"{task.name} in {opened.name}")
    same = sum(leak.kind == SAME_BYTES for leak in comparison.found)
    return LeakReport(
        reference=collection.location,
        target=task.name,
        images=comparison.compared,
        tested=comparison.tested,
        unreadable=comparison.unreadable,
        unread=comparison.unread,
        same_bytes=same,
        near_copies=len(comparison.found) - same,
        leaking_tests=len({leak.test for leak in comparison.found}),
        leaks=comparison.found,
        index=used,
        note=note,
        seconds=clock.seconds,
    )


class SelectionCheck:
    """Finds near copies of test images among the images of a selection; asked again, it looks only at what is new.

    Fingerprints and hashes are those that the index keeps, where the reference was opened by one that does; then no image is
    decoded but the candidates. Else every chosen image is.

    `note` says why nothing can be checked: the reference is not here, or has changed. The index alone is enough to
    select, so that is no failure unless `must` says so. Without test images there is nothing to check.
    """

    def __init__(
        self, test: Split | None, reference: Callable[[], Reference], *, must: bool = False, report: Report = silent
    ) -> None:
        self._report = report
        self._collection: Collection | None = None
        self._kept: Callable[[I64], Fingerprints] | None = None
        self._fingerprints: Fingerprints | None = None  # of all images seen so far
        self.note = ""
        if test is not None and len(test):
            try:
                opened = reference()
                self._collection, self._kept = opened.collection, opened.fingerprints
            except PladaError as err:
                if must:
                    raise
                self.note = str(err)
            else:
                self._tests = read_tests(test.collection, test.positions, report=report)

    def __call__(self, positions: I64) -> tuple[Leak, ...]:
        """Leaks among the images at `positions`, int64 [k]. Of a test image with very many copies not all are found at
        once: ask again without those."""
        if self._collection is None:
            return ()
        known = self._fingerprints.positions if self._fingerprints is not None else np.zeros(0, np.int64)
        fresh = np.setdiff1d(positions, known)
        if len(fresh):
            seen = self._fingerprints_of(self._collection, fresh)
            self._fingerprints = seen if self._fingerprints is None else _joined(self._fingerprints, seen)
        if self._fingerprints is None:
            return ()
        wanted = _rows(self._fingerprints, np.flatnonzero(np.isin(self._fingerprints.positions, positions)))
        blocks = _parts(wanted)
        images = len(wanted.positions)
        return find_leaks(self._tests, self._collection, blocks, images=images, report=self._report).found

    def _fingerprints_of(self, collection: Collection, positions: I64) -> Fingerprints:
        if self._kept is None:
            return scan_fingerprints(collection, positions, stage="chosen images", report=self._report)[0]
        tracker = Tracker("chosen images", len(positions), self._report)
        parts = []
        for start in range(0, len(positions), _CHOSEN):
            parts.append(self._kept(positions[start : start + _CHOSEN]))
            tracker.advance(len(parts[-1].positions))
        return reduce(_joined, parts)


def _joined(first: Fingerprints, second: Fingerprints) -> Fingerprints:
    return Fingerprints(
        np.concatenate([first.positions, second.positions]),
        np.concatenate([first.hashes, second.hashes]),
        np.concatenate([first.fingerprints, second.fingerprints]),
    )


def _rows(fingerprints: Fingerprints, rows: I64 | slice) -> Fingerprints:
    return Fingerprints(fingerprints.positions[rows], fingerprints.hashes[rows], fingerprints.fingerprints[rows])


@dataclass(frozen=True, slots=True)
class SelectionLeaks:
    """Chosen images that are near copies of test images, those that were dropped for it, and why nothing was checked, if so."""

    found: tuple[Leak, ...]
    dropped: tuple[Leak, ...]
    note: str


def avoid_leaks(
    draft: Draft, choose: Callable[[PseudoLabels], Draft], check: SelectionCheck, *, drop: bool
) -> tuple[Draft, SelectionLeaks]:
    """(draft, its leaks): the draft with its near copies of test images named, or with `drop` another one that has none,
    which `choose` makes of the candidates that remain.

    Raises:
        DataError: nothing else can be chosen.
    """
    leaks = check(draft.payload.positions)
    dropped: tuple[Leak, ...] = ()
    while leaks and drop:
        dropped = (*dropped, *leaks)
        draft = choose(without(draft.labels, np.array([leak.position for leak in leaks], np.int64)))
        leaks = check(draft.payload.positions)
    return draft, SelectionLeaks(leaks, dropped, check.note)


def _blocks(reference: Reference, fingerprints: npt.NDArray[np.uint8]) -> Iterator[Fingerprints]:
    at = 0
    for table in reference.manifest.blocks(["hash"]):
        stop = at + table.num_rows
        hashes = binary_rows(table.column("hash"))
        yield from _parts(Fingerprints(np.arange(at, stop, dtype=np.int64), hashes, fingerprints[at:stop]))
        at = stop


def _parts(fingerprints: Fingerprints) -> Iterator[Fingerprints]:
    for start in range(0, len(fingerprints.positions), _BLOCK):
        yield _rows(fingerprints, slice(start, start + _BLOCK))


def _ids(reference: Reference) -> tuple[str, str]:
    return reference.manifest.key_id.hex(), reference.manifest.content_id.hex()


def _indexes_of(reference: Reference, home: Path) -> Iterator[Index]:
    """The indexes of these very images."""

    return indexes_that(lambda index: (index.info["key_id"], index.info["content_id"]) == _ids(reference), home)


def _copy_fingerprints(reference: Reference, home: Path, path: Path) -> None:
    """Write the fingerprints that an index of the same images has, so that no image need be decoded again for them."""
    for index in _indexes_of(reference, home):
        try:
            if index.has_fingerprints():
                with whole_file(path) as part:
                    with part.open("wb") as file:
                        for fingerprints in index.fingerprints():
                            file.write(fingerprints.tobytes())
                    append_digest(part)
                return
        except PladaError:
            continue  # they can be made without it


def _neighbours(
    reference: Reference, name: str | Path | None, home: Path, test: Split, tests: TestImages, report: Report
) -> tuple[I64 | None, str | None, str]:
    """(positions int64 [n, k] of each test image's neighbours, the index's name, why there are none)."""

    if name is not None:
        ids = _ids(reference)
        index = open_index(name, home=home)
        if (index.info["key_id"], index.info["content_id"]) != ids:
            raise ReferenceMismatch(
                f"index '{index.name}' was made of images with content id {index.info['content_id'][:16]}, "
                f"{reference.collection.location} has {ids[1][:16]}. Name another index, or none",
                wanted=ids[1],
                found=index.info["content_id"],
            )
        return _nearest(index, test, tests, report), index.name, ""
    for index in _indexes_of(reference, home):
        try:
            return _nearest(index, test, tests, report), index.name, ""
        except PladaError as err:
            return None, None, f"index '{index.name}' could not be used: {err}"
    return None, None, "no index of these images is here"


def _nearest(index: Index, test: Split, tests: TestImages, report: Report) -> I64:

    encoder = index.encoder()
    vectors = [np.zeros((0, index.dimension), np.float32)]
    for start in range(0, len(tests), _EMBEDDED):
        rows = tests.positions[start : start + _EMBEDDED]
        pixels, _ = load_pixels(test.collection.read, rows, encoder.view, stage="embed tests")
        vectors.append(encoder.encode(pixels))
    queries = np.concatenate(vectors)
    if not len(queries):
        return np.zeros((0, NEIGHBOURS), np.int64)
    readable = len(index) - int(index.info["unreadable"])
    return np.asarray(exact_search(index.scan(), queries, min(NEIGHBOURS, readable))[1], np.int64)
