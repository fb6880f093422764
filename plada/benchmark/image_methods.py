"""Methods that send pictures of the target itself: JPEG at quality 30, then one zstd-19 frame, labels included.

The paper's baselines are a class-balanced random subset and k-centre for each class, at the stored size (docs/bench.md). Two
harder baselines are not in the paper: the same pictures shrunk to the size that teaches best, without the JPEG tables, which
are always the same. Size and the student's penalty are chosen on images of the target that are not sent.
"""

import io
from collections.abc import Iterator
from functools import cache

import numpy as np
import zstandard
from PIL import Image

from plada.benchmark.messages import (
    AllTargetImages,
    DoesNotFit,
    KnownAccuracy,
    Message,
    Outcome,
    SendMethod,
    TargetPictures,
)
from plada.benchmark.scenario import Scenario
from plada.common.arrays import F32, I64, Bools
from plada.common.statistics import accuracy
from plada.errors import DataError, Unreadable
from plada.networks.linear_head import Head, HeadFitter
from plada.sources.decode import decode
from plada.sources.targets.target import Split

QUALITY, LEVEL = 30, 19
SIDES = (8, 12, 16, 24, 32, 48)  # pixels of the shorter side
PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5)
_SOI, _EOI, _FRAME = b"\xff\xd8", b"\xff\xd9", b"\xff\xc0"
_TABLES, _BARE = 1, 2  # libjpeg's abbreviated files: tables alone, picture alone
_COLOUR, _GREY = b"\0", b"\1"


def pack_pictures(files: list[bytes], labels: I64, classes: int) -> bytes:
    """One zstd-19 frame of JPEG files and their labels, of 1 byte each up to 256 classes, else 2. Raises DataError: a
    file with an end-of-image marker in its middle (a thumbnail)."""
    joined = b"".join(files)
    if joined.count(_EOI) != len(files):
        raise DataError("pictures: a JPEG file has more than one end; they could not be told apart")
    raw = joined + labels.astype("<u1" if classes <= 1 << 8 else "<u2").tobytes()
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=False).compress(raw)


def unpack_pictures(data: bytes, classes: int) -> tuple[list[bytes], I64]:
    """(files, labels int64 [k]) of what pack_pictures wrote."""
    *files, rest = zstandard.ZstdDecompressor().decompress(data).split(_EOI)
    return [file + _EOI for file in files], np.frombuffer(rest, "<u1" if classes <= 1 << 8 else "<u2").astype(np.int64)


def as_jpeg(image: Image.Image) -> bytes:
    """A picture as a JPEG file of quality 30; a grey picture has one channel."""
    return _save(_plain(image), 0)


def shrunk(image: Image.Image, side: int) -> bytes:
    """A picture whose shorter side has `side` pixels, without the tables that `whole_jpeg` restores."""
    plain = _plain(image)
    factor = side / min(plain.size)
    size = max(1, round(plain.width * factor)), max(1, round(plain.height * factor))
    bare = _save(plain.resize(size, Image.Resampling.LANCZOS), _BARE)
    return bare[: len(_SOI)] + bare[bare.index(_FRAME) :]  # the JFIF header between them says nothing


def whole_jpeg(bare: bytes) -> bytes:
    """The JPEG file of a picture without tables: those of quality 30 are always the same."""
    grey = bare[bare.index(_FRAME) + 9] == 1  # components
    return _tables(grey)[: -len(_EOI)] + bare[len(_SOI) :]


@cache
def _tables(grey: bool) -> bytes:
    return _save(Image.new("L" if grey else "RGB", (8, 8)), _TABLES)


def _save(image: Image.Image, streamtype: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY, streamtype=streamtype)
    return buffer.getvalue()


def _plain(image: Image.Image) -> Image.Image:
    bands = np.asarray(image)
    return image.convert("L") if bool((bands == bands[..., :1]).all()) else image


class ImagePool:
    """The target's training and validation images, which may be sent, as files and as embeddings; each is encoded once."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.places = [*_readable(scenario.target.train, scenario.embedded.train.readable)]
        self.places += _readable(scenario.target.validation, scenario.embedded.validation.readable)
        known = scenario.own_images
        self.vectors, self.labels = known.vectors, known.labels
        assert len(self.places) == len(self.labels)
        self._files: dict[tuple[int, int], bytes] = {}
        self._embeddings: dict[tuple[int, int], F32] = {}

    def file(self, row: int, side: int) -> bytes:
        """An image as it would be sent, its shorter side of `side` pixels (0: as stored)."""
        if (row, side) not in self._files:
            split, position = self.places[row]
            image = decode(split.collection.read(position))
            self._files[row, side] = shrunk(image, side) if side else as_jpeg(image)
        return self._files[row, side]

    def embedding(self, row: int, side: int) -> F32:
        """The embedding [d] of such an image."""
        if (row, side) not in self._embeddings:
            self._embeddings[row, side] = embed_pictures(self.scenario, [self.file(row, side)], bare=bool(side))[0]
        return self._embeddings[row, side]

    def smallest(self) -> int:
        """Pixels of the shorter side of the first image, which stands for all."""
        split, position = self.places[0]
        return min(decode(split.collection.read(position)).size)

    def order(self, how: str) -> I64:
        """Rows in which one image of each class follows another, the classes in random order.

        Within a class the order is random, or k-centre: the image nearest to the mean, then the farthest from all before.
        """
        rng = np.random.default_rng([self.scenario.seed, 2])
        ranked = []
        for label in range(self.scenario.classes):
            rows = np.flatnonzero(self.labels == label)
            ranked.append(rows[_k_centre(self.vectors[rows])] if how == "k-centre" else rng.permutation(rows))
        taken: list[int] = []
        for turn in range(max(map(len, ranked))):
            taken += [
                int(ranked[label][turn])
                for label in rng.permutation(self.scenario.classes)
                if turn < len(ranked[label])
            ]
        return np.asarray(taken, np.int64)


def _readable(split: Split, mask: Bools | None) -> Iterator[tuple[Split, int]]:
    positions = split.positions if mask is None else split.positions[mask]
    return ((split, position) for position in positions.tolist())


def _k_centre(vectors: F32) -> I64:
    """Rows of vectors [n, d] in the order of greedy k-centre (farthest first)."""
    far = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1)
    order = [int(far.argmin())]
    far = ((vectors - vectors[order[0]]) ** 2).sum(axis=1)
    while len(order) < len(vectors):
        far[order[-1]] = -1.0
        order.append(int(far.argmax()))
        far = np.minimum(far, ((vectors - vectors[order[-1]]) ** 2).sum(axis=1))
    return np.asarray(order, np.int64)


def embed_pictures(scenario: Scenario, files: list[bytes], *, bare: bool) -> F32:
    """Embeddings float32 [k, d] of pictures as they arrive."""
    encoder = scenario.index.encoder()
    views = [encoder.view.of(decode(whole_jpeg(file) if bare else file)) for file in files]
    return np.concatenate([encoder.encode(np.stack(views[at : at + 64])) for at in range(0, len(views), 64)])


def send_pictures(how: str, *, shrink: bool) -> SendMethod:
    """As many pictures as fit, in the order `how` (random, k-centre); with `shrink` at the size that teaches best."""

    def send(scenario: Scenario, budget: int) -> Outcome:
        pool = image_pool(scenario)
        order = pool.order(how)
        small = pool.smallest()
        sides = [*(side for side in SIDES if side < small), small] if shrink else [0]
        best: tuple[float, int, int, float] | None = None  # score, images, side, penalty
        for side in sides:
            count = _max_fitting(pool, order, side, budget)
            if not count:
                continue
            vectors = np.stack([pool.embedding(int(row), side) for row in order[:count]])
            score, penalty = _judge(scenario, vectors, pool.labels[order[:count]], np.delete(order, np.s_[:count]))
            if best is None or score > best[0]:
                best = score, count, side, penalty
        if best is None:
            least = len(pack_pictures([pool.file(int(order[0]), sides[0])], pool.labels[order[:1]], scenario.classes))
            return DoesNotFit("one picture needs more", least)
        _, count, side, penalty = best
        rows = order[:count]
        data = pack_pictures([pool.file(int(row), side) for row in rows], pool.labels[rows], scenario.classes)
        files, labels = unpack_pictures(data, scenario.classes)
        arrived = tuple(whole_jpeg(file) if side else file for file in files)
        return Message(
            len(data),
            TargetPictures(arrived, labels, penalty),
            data,
            {"side": side or small, "penalty": penalty, "expected": best[0] if count < len(order) else None},
        )

    return send


def _max_fitting(pool: ImagePool, order: I64, side: int, budget: int) -> int:
    """How many of the first pictures in this order fit into a budget."""
    low, high = 0, min(len(order), max(1, budget // 16))

    def size(count: int) -> int:
        files = [pool.file(int(row), side) for row in order[:count]]
        return len(pack_pictures(files, pool.labels[order[:count]], pool.scenario.classes))

    reach = 1
    while reach < high and size(reach) <= budget:  # few fit, so most files are never made
        low, reach = reach, 2 * reach
    high = min(high, reach)
    while low < high:
        middle = (low + high + 1) // 2
        if size(middle) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _judge(scenario: Scenario, vectors: F32, labels: I64, rest: I64) -> tuple[float, float]:
    """(accuracy on the images that are not sent, penalty) of the best linear student of these pictures."""
    pool = image_pool(scenario)
    fitter = HeadFitter(vectors, labels, classes=scenario.classes, mean=scenario.index.mean)
    scores = []
    for penalty in PENALTIES:
        logits = fitter.head(penalty, steps=80).logits(pool.vectors[rest])
        scores.append((accuracy(logits, pool.labels[rest]), penalty))
    return max(scores)


def image_pool(scenario: Scenario) -> ImagePool:
    """The pool of a scenario, made once."""
    if "pool" not in scenario.cache:
        scenario.cache["pool"] = ImagePool(scenario)
    pool: ImagePool = scenario.cache["pool"]
    return pool


def fit_on_pictures(scenario: Scenario, sent: TargetPictures) -> Head:
    """A linear student of pictures as they arrived. Raises DataError: one cannot be decoded."""
    try:
        vectors = embed_pictures(scenario, list(sent.files), bare=False)
    except Unreadable as err:
        raise DataError(f"pictures: one that was sent cannot be decoded ({err})") from err
    fitter = HeadFitter(vectors, sent.labels, classes=scenario.classes, mean=scenario.index.mean)
    return fitter.head(sent.penalty)


def send_full_data(scenario: Scenario, _: int) -> Outcome:
    """All of the target's training and validation images as they are stored."""
    pool = image_pool(scenario)
    size = sum(len(split.collection.read(position)) for split, position in pool.places)
    return Message(size, AllTargetImages(len(pool.labels)))


def known_teacher(scenario: Scenario, _: int) -> Outcome:
    """The upper bound: the teacher that labels the reference. It is not sent."""
    return Message(None, KnownAccuracy(scenario.teacher_accuracy, len(scenario.own_images.labels)))
