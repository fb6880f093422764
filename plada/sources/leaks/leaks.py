"""Leaks: images of a reference that are near copies of a target's test images.

There are two stages. Fingerprints (plada/sources/leaks/fingerprints.py) of all reference images are matched with versions of
every test image's fingerprint: as it is, mirrored, flipped, and with either image a crop of the other. The nearest few of each
test image, and what the caller adds (its neighbours in an index), are decoded and aligned with the test image
(plada/sources/leaks/alignment.py), which decides. Images with the same bytes are found by their hashes.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from plada.common.arrays import F32, I64, U8
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError, Unreadable
from plada.sources.collection import Collection
from plada.sources.decode import decode
from plada.sources.leaks.alignment import SIDE, Agreement, agreement, square
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES, Fingerprints, fingerprint
from plada.sources.leaks.matching import VERSIONS, Nearest, placements, turned, version_scores, versions_of
from plada.sources.manifest import HASH_BYTES, content_hash

SAME_BYTES, NEAR_COPY = "same bytes", "near copy"
THRESHOLD = 0.25  # of the score of a near copy; docs/log.md says how it was found
_ALIKE = 0.7  # correlation of fingerprints below which the pixels are not compared
_STARTS = 3  # versions from which a pair is laid over each other
# Levels of luma that re-encoding explains, and how many more weigh as much as an edge correlation of one.
_LUMA_FREE, _LUMA_LEVELS = 2.5, 15.0
_COLOUR_FREE, _COLOUR_LEVELS, _COLOUR_MOST = 10.0, 50.0, 0.4  # the same for colour, which a copy in grey may lack
_CROPPED = 0.03  # share of a side that counts as cut off
_GROUP = 256  # test images whose candidates are in memory together
_PAIRS = 256


@dataclass(frozen=True, slots=True)
class TestImages:
    """Readable test images, ready to be compared: positions int64 [n] in their collection, keys, content hashes uint8
    [n, 16], versions float32 [n, V, FINGERPRINT_BYTES], squares uint8 [n, SIDE, SIDE, 3]; `unreadable` were left out."""

    __test__ = False  # not a test, whatever pytest makes of the name

    positions: I64
    keys: tuple[str, ...]
    hashes: U8
    versions: F32
    squares: U8
    unreadable: int

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A test image and its copy in the reference, both by position and key.

    `kind` is "same bytes" or "near copy"; `score`, at most 1, how well the two agree; `change` what was done to one of
    them beyond encoding and size: "" or some of "mirrored", "flipped", "cropped".
    """

    test: int
    test_key: str
    position: int
    key: str
    kind: str
    score: float
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """`found`, by test image and then best first. `tested` images were compared with `compared` of the reference;
    `unreadable` test images and `unread` candidates of the reference were left out."""

    found: tuple[Leak, ...]
    tested: int
    compared: int
    unreadable: int
    unread: int


def read_tests(collection: Collection, positions: I64, *, report: Report = silent, workers: int = 4) -> TestImages:
    """Read and decode test images, by position int64 [n]; those that cannot be are left out and counted."""
    n = len(positions)
    hashes, squares = np.zeros((n, HASH_BYTES), np.uint8), np.zeros((n, SIDE, SIDE, 3), np.uint8)
    versions = np.zeros((n, len(VERSIONS), FINGERPRINT_BYTES), np.float32)
    tracker = Tracker("test images", n, report)

    def read(row: int) -> bool:
        try:
            data = collection.read(int(positions[row]))
            image = decode(data)
        except (Unreadable, DataError):
            return False
        hashes[row] = np.frombuffer(content_hash(data), np.uint8)
        versions[row], squares[row] = versions_of(image), square(image)
        return True

    readable = np.zeros(n, np.bool_)
    with ThreadPoolExecutor(workers) as pool:
        for row, success in enumerate(pool.map(read, range(n))):
            readable[row] = success
            tracker.advance()
    kept = positions[readable]
    if not readable.all():
        hashes, versions, squares = hashes[readable], versions[readable], squares[readable]
    return TestImages(kept, _keys(collection, kept), hashes, versions, squares, int(n - len(kept)))


def find_leaks(
    tests: TestImages,
    reference: Collection,
    blocks: Iterable[Fingerprints],
    *,
    neighbours: I64 | None = None,
    images: int | None = None,
    nearest: int | None = None,
    report: Report = silent,
    workers: int = 4,
) -> Leaks:
    """Which images of the reference are copies of test images.

    `blocks` hold the hashes and fingerprints of the reference, or of `images` of it, each position once. `neighbours` int64
    [len(tests), k] are further candidates of each test image (-1: none). `nearest` is how many candidates of each are
    taken by their fingerprints. Images that cannot be read are left out and counted.
    """
    compared, pairs, matched = _match(tests, blocks, len(reference) if images is None else images, nearest, report)
    if neighbours is not None:
        rows, columns = np.nonzero(neighbours >= 0)
        matched = np.concatenate([matched, np.stack([rows, neighbours[rows, columns]], axis=1)])
    same = set(map(tuple, pairs.tolist()))
    candidates = np.unique(matched, axis=0) if len(matched) else matched
    candidates = candidates[[tuple(pair) not in same for pair in candidates.tolist()]]
    found = [
        Leak(
            test=int(tests.positions[row]), test_key=tests.keys[row], position=int(position), key="",
            kind=SAME_BYTES, score=1.0, change="",
        )
        for row, position in pairs
    ]  # fmt: skip
    near, unread = _compare_pixels(tests, reference, candidates, report, workers)
    found = sorted([*found, *near], key=lambda leak: (leak.test, -leak.score, leak.position))
    keys = _keys(reference, np.array([leak.position for leak in found], np.int64))
    named = tuple(replace(leak, key=key) for leak, key in zip(found, keys, strict=True))
    return Leaks(found=named, tested=len(tests), compared=compared, unreadable=tests.unreadable, unread=unread)


def candidates_of(images: int) -> int:
    """Candidates a test image among so many: a copy is the first nearly always among 40 000, a crop not among millions."""
    return min(max(2, images // 2500), 16) + min(images // 100_000, 112)


def _match(
    tests: TestImages, blocks: Iterable[Fingerprints], images: int, nearest: int | None, report: Report
) -> tuple[int, I64, I64]:
    """(images compared, pairs of the same bytes, pairs of similar fingerprints); pairs int64 [m, 2]: row of tests, position."""
    best = Nearest(tests.versions, nearest or candidates_of(images), floor=_ALIKE)
    tracker = Tracker("compare", images, report)
    heads = tests.hashes[:, :8].copy().view(np.uint64)[:, 0]
    same: list[tuple[int, int]] = []
    for block in blocks:
        if len(tests):
            best.add(block.positions, block.fingerprints)
            alike = np.flatnonzero(np.isin(np.ascontiguousarray(block.hashes[:, :8]).view(np.uint64)[:, 0], heads))
            for row in alike.tolist():
                equal = np.flatnonzero((tests.hashes == block.hashes[row]).all(axis=1))
                same += [(test, int(block.positions[row])) for test in equal.tolist()]
        tracker.advance(len(block.positions))
    rows, columns = np.nonzero(best.positions >= 0)
    matched = np.stack([rows, best.positions[rows, columns]], axis=1).astype(np.int64)
    return tracker.done, np.array(same, np.int64).reshape(-1, 2), matched


def _compare_pixels(
    tests: TestImages, reference: Collection, candidates: I64, report: Report, workers: int
) -> tuple[list[Leak], int]:
    """Leaks among pairs int64 [m, 2] sorted by test image, and how many images of the reference could not be read."""
    found: list[Leak] = []
    unread: set[int] = set()
    tracker = Tracker("look closer", len(candidates), report)

    def read(position: int) -> tuple[U8, U8] | None:
        try:
            image = decode(reference.read(position))
        except (Unreadable, DataError):
            return None
        return fingerprint(image), square(image)

    with ThreadPoolExecutor(workers) as pool:
        for group in _groups(candidates):
            positions = np.unique(group[:, 1])
            seen = dict(zip(positions.tolist(), pool.map(read, positions.tolist()), strict=True))
            unread.update(position for position, image in seen.items() if image is None)
            readable = group[[seen[position] is not None for position in group[:, 1].tolist()]]
            for start in range(0, len(readable), _PAIRS):
                pairs = readable[start : start + _PAIRS]
                images = [image for position in pairs[:, 1].tolist() if (image := seen[position]) is not None]
                found += _judge(tests, pairs, np.stack([i[0] for i in images]), np.stack([i[1] for i in images]))
            tracker.advance(len(group))
    return found, len(unread)


def _groups(candidates: I64) -> Iterator[I64]:
    """The pairs of _GROUP test images at a time."""
    if len(candidates):
        edges = np.searchsorted(candidates[:, 0], np.arange(0, int(candidates[-1, 0]) + _GROUP + 1, _GROUP))
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if last > first:
                yield candidates[first:last]


def _judge(tests: TestImages, pairs: I64, fingerprints: U8, squares: U8) -> list[Leak]:
    rows = pairs[:, 0]
    likely = np.argsort(-version_scores(tests.versions[rows], fingerprints), axis=1, kind="stable")[:, :_STARTS]
    turns = np.stack([turned(tests.squares[rows], likely[:, i]) for i in range(_STARTS)], axis=1)
    agreed = agreement(turns, squares, placements(likely))
    scores = score(agreed)
    return [
        Leak(
            test=int(tests.positions[rows[i]]), test_key=tests.keys[rows[i]], position=int(pairs[i, 1]), key="",
            kind=NEAR_COPY, score=round(float(scores[i]), 4), change=_change(int(likely[i, agreed.start[i]]), agreed, i),
        )
        for i in np.flatnonzero(scores > THRESHOLD).tolist()
    ]  # fmt: skip


def score(agreed: Agreement) -> F32:
    """One number for how well pairs agree, float32 [n], at most 1: their edges, less what brightness and colour differ."""
    luma = np.maximum(agreed.shift - _LUMA_FREE, 0) / _LUMA_LEVELS
    colour = np.clip((agreed.colour - _COLOUR_FREE) / _COLOUR_LEVELS, 0, _COLOUR_MOST)
    return np.asarray(agreed.edges - luma - colour, np.float32)


def _change(version: int, agreed: Agreement, row: int) -> str:
    """What the placement says was done, in words."""
    place = agreed.place
    cut = max(abs(float(place.scale_x[row]) - 1), abs(float(place.scale_y[row]) - 1))
    shifted = max(abs(float(place.left[row])), abs(float(place.top[row])))
    changes = (
        (VERSIONS[version].mirror, "mirrored"),
        (VERSIONS[version].flip, "flipped"),
        (max(cut, shifted) > _CROPPED, "cropped"),
    )
    return ", ".join(word for true, word in changes if true)


def _keys(collection: Collection, positions: I64 | Sequence[int]) -> tuple[str, ...]:
    keys = collection.keys
    return tuple(keys[int(position)].as_py() for position in positions)
