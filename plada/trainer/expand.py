"""More labelled images for no byte: `plada train --expand`.

A client with an index or a pack of the reference fits a linear student to the payload's images in a second and labels the whole
reference with it. Its network then trains on the surest images of each class, too: on the linear student's calibrated answers, not on
its names alone. A linear student gains nothing by it (docs/log.md).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from plada.common.arrays import F16, F32, F64, I64
from plada.common.statistics import class_ranks, softmax
from plada.errors import DataError, PayloadError, ReferenceMismatch, RequestError
from plada.labeler.calibration import fit_temperature
from plada.labeler.scan import scan_linear
from plada.networks.linear_head import STUDENT_PENALTY, Head, fit_head
from plada.payload.pack import Pack, find_pack, read_pack
from plada.payload.payload import Payload
from plada.payload.soft_labels import soft_labels_of
from plada.retrieval.index import Index, indexes_that, open_index
from plada.trainer.linear_student import check_targets, only_index, with_embedding
from plada.trainer.own_pictures import held_out_logits

AUTO = "auto"
TIMES = 3  # as many images as were sent are added by `auto`
SURE = 0.5  # share of the payload's held-back images that the linear student must name right for that
_MIN_SENT = 8  # images below which that share says nothing
_MAX_HELD = 4096  # images that are held back in turn at most
_MAX_ANSWERS = 1 << 27  # answers that are kept, of 2 bytes each; of more the names alone
_BLOCK = 1 << 16
_SAMPLE = 1 << 20  # rows that the mean of a pack is taken over at most: every n-th


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Labels of two kinds: below `classes` a class; others stand for a row of `rows` float16 [m, classes], a student's answer.
    What `SoftLabels` is to the labels of a payload."""

    classes: int
    rows: F16
    precision: None = None

    def targets(self, labels: I64, seed: int) -> F64:
        """What to train on, float64 [n, classes], rows adding up to 1. Nothing is drawn."""
        targets = np.zeros((len(labels), self.classes))
        known = labels < self.classes
        targets[np.flatnonzero(known), labels[known]] = 1
        targets[~known] = self.rows[labels[~known] - self.classes]
        return np.asarray(targets / targets.sum(axis=1, keepdims=True), np.float64)

    def names(self, labels: I64) -> I64:
        """The class of each label; the likeliest one of an answer."""
        return np.asarray(self.targets(labels, 0).argmax(axis=1), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """A payload with more images.

    Attributes:
        labels: The payload and the images that were added, each with its class.
        source: The index or pack that the linear student stands on.
        held: Share of the payload's own images that such a student names right when it has not learned from them; None where there are
            too few.
        answers: What the linear student says of the images that were added; None where they are trained on by name.
        targets: Labels of `labels` for training with `answers`, int64 [n].
    """

    labels: Payload
    source: str
    held: float | None
    answers: Answers | None = None
    targets: I64 | None = None

    def note(self, added: int) -> str:
        """A line for people."""
        judged = (
            ""
            if self.held is None
            else f", which names {self.held:.0%} of the payload's own images right when they are held back"
        )
        named = f"a linear student on {self.source}{judged}"
        if not added:
            return f"no image was added: {named}; {SURE:.0%} are needed. --expand N adds N of each class all the same"
        return f"{added} images were added that were not sent, labelled by {named}. --expand 0 leaves them out"


def expand(
    payload: Payload,
    per_class: int | None = None,
    *,
    home: Path,
    index: str | None = None,
    pack: str | Path | None = None,
    same_keys: bool = False,
    device: str | None = "cpu",
) -> Expansion | None:
    """`payload` with up to `per_class` more images of each class, those that a linear student labels with the largest margins.

    The student is fitted to the payload's images, on the embeddings of `index` or else of the only index here of the reference, or on
    the features of its pack. `same_keys` accepts an index of a re-encoded or resized copy. A large fit may run on `device`.
    Nothing is random. Memory grows with `per_class` times the number of classes.

    Where `per_class` is None (`auto`), TIMES as many images as were sent are added, on the index or pack on which most of the payload's held-back
    images are named right; none where these are fewer than SURE of them. None is returned where there is neither index nor pack, or the
    payload is too small to judge.

    Raises:
        RequestError: `per_class` below 1; nothing here is of the payload's reference, or several indexes are.
        ReferenceMismatch: `index` is of other images. UnknownName: there is no such index.
        DataError: the index could read none of the payload's images. ResourceError: too many images and classes.
    """
    if per_class is not None and per_class < 1:
        raise RequestError(f"--expand {per_class}: expected 1 or more images of each class, or 0 for none")
    chosen = per_class is not None
    count = per_class if per_class is not None else -(-TIMES * len(payload) // max(1, len(payload.classes)))
    # The images that were sent may be among the surest of their class.
    depth = count + max(payload.class_counts())
    if not chosen and (len(payload) < _MIN_SENT or len(payload.classes) < 2):
        return None
    check_targets(max(len(payload), min(depth, payload.reference)), len(payload.classes))
    found = _features(payload, home, index, pack, same_keys, several=not chosen)
    if not found:
        if chosen or index is not None:
            raise RequestError(
                "--expand needs an index or a pack of the payload's reference, and there is none here. Run plada index, or install one "
                "with plada install-pack"
            )
        return None
    judged = [(each, judge(each, len(payload.classes), device)) for each in found]
    features, (held, temperature) = max(judged, key=lambda pair: pair[1][0])
    share = held if held >= 0 else None
    if not chosen and held < SURE:
        return Expansion(labels=payload, source=features.name, held=share)
    return _expanded(payload, features, count, depth, share, temperature, device)


@dataclass(frozen=True, slots=True)
class Features:
    """Features of the reference that are here: of the payload's images that have some, `vectors` float32 [k, d] with `labels` [k];
    of all images, block by block; of any `positions`."""

    name: str
    vectors: F32
    labels: I64
    mean: F32
    scan: Callable[[], Iterator[tuple[I64, F16 | F32]]]
    of: Callable[[I64], F32]

    def fit(self, classes: int, device: str | None, rows: I64 | None = None) -> Head:
        """A linear student of the payload's images, or of some of them."""
        vectors, labels = (self.vectors, self.labels) if rows is None else (self.vectors[rows], self.labels[rows])
        return fit_head(vectors, labels, classes=classes, mean=self.mean, penalty=STUDENT_PENALTY, device=device)


def judge(features: Features, classes: int, device: str | None) -> tuple[float, float]:
    """(share of the payload's images that are named right by students that have not learned from them, temperature of their logits);
    -1 and 1 where there are too few."""
    rows = np.arange(0, len(features.labels), -(-len(features.labels) // _MAX_HELD))
    if len(rows) < _MIN_SENT:
        return -1.0, 1.0
    some, labels = features.vectors[rows], features.labels[rows]
    logits = held_out_logits(lambda part: features.fit(classes, device, rows[part]).logits, some, labels, classes)
    return float((logits.argmax(axis=1) == labels).mean()), fit_temperature(logits, labels)


def _expanded(
    payload: Payload,
    features: Features,
    count: int,
    depth: int,
    held: float | None,
    temperature: float,
    device: str | None,
) -> Expansion:
    """The payload with the `count` surest images of each class that were not sent, among `depth` of each."""
    classes = len(payload.classes)
    head = features.fit(classes, device)
    surest = scan_linear(features.scan(), head, depth=depth)
    fresh = np.flatnonzero(~np.isin(surest.positions, payload.positions))
    order = fresh[np.lexsort((surest.positions[fresh], -surest.margins[fresh]))]
    kept = np.sort(order[class_ranks(surest.labels[order]) < count])
    added = surest.positions[kept]
    both = np.concatenate([payload.positions, added])
    place = np.argsort(both)
    names = np.concatenate([payload.labels, surest.labels[kept]])
    labels = replace(payload, positions=both[place], labels=names[place], rank=None)
    if not len(added) or len(added) * classes > _MAX_ANSWERS or soft_labels_of(payload.notes, classes) is not None:
        return Expansion(labels=labels, source=features.name, held=held)
    answers = np.concatenate(
        [
            softmax(head.logits(features.of(added[start : start + _BLOCK])), temperature).astype(np.float16)
            for start in range(0, len(added), _BLOCK)
        ]
    )
    targets = np.concatenate([payload.labels, classes + np.arange(len(added))])
    return Expansion(
        labels=labels, source=features.name, held=held, answers=Answers(classes, answers), targets=targets[place]
    )


def _features(
    payload: Payload, home: Path, name: str | None, pack: str | Path | None, same_keys: bool, *, several: bool
) -> list[Features]:
    """The index of that name; else indexes here of the payload's reference, and its pack. Unless `several` may be compared, one: the
    only index, or without any the pack."""

    def fits(opened: Index) -> bool:
        keys, content = opened.info["key_id"], opened.info["content_id"]
        same = same_keys or content.startswith(payload.content_id.hex())
        return bool(keys.startswith(payload.key_id.hex()) and len(opened) == payload.reference and same)

    if name is not None:
        opened = open_index(name, home=home)
        if not fits(opened):
            raise ReferenceMismatch(
                f"--expand: index '{name}' is of other images than the payload's reference. Name one of these images, or make it "
                "with plada index",
                wanted=payload.content_id.hex(),
                found=opened.info["content_id"][:16],
            )
        return [index_features(opened, payload)]
    fitting = list(indexes_that(fits, home))
    if several:
        found = [each for each in (_readable(index_features, index, payload) for index in fitting) if each is not None]
        installed = _pack_of(payload, home, pack)
        features = _readable(pack_features, installed, payload) if installed is not None else None
        return [*found, *([features] if features is not None else [])]
    only = only_index(fitting, "--expand")
    if only is not None:
        return [index_features(only, payload)]
    installed = _pack_of(payload, home, pack)
    return [pack_features(installed, payload)] if installed is not None else []


def _readable(make: Callable[..., Features], source: Index | Pack, payload: Payload) -> Features | None:
    """What nobody asked for by name is passed over where it cannot be used."""
    try:
        return make(source, payload)
    except DataError:
        return None


def _pack_of(payload: Payload, home: Path, pack: str | Path | None) -> Pack | None:
    """The pack that is named, or the installed one; None where there is none, several, or a damaged one."""
    try:
        found = read_pack(pack) if pack is not None else find_pack(home, payload.key_id)
        if found is not None:
            found.check(key=payload.key_id, images=payload.reference)
        return found
    except (PayloadError, ReferenceMismatch, RequestError):
        return None


def index_features(opened: Index, payload: Payload) -> Features:
    """The embeddings of an index. Raises DataError: it could read none of the payload's images."""
    positions, labels = with_embedding(opened, payload)

    def of(some: I64) -> F32:
        return np.asarray(opened.vectors(some), np.float32)

    return Features(f"index {opened.name}", of(positions), labels, opened.mean, opened.scan, of)


def pack_features(pack: Pack, payload: Payload) -> Features:
    """Features of a pack as unit vectors; an image without features has none. Raises DataError: all of the payload's are such."""

    def of(some: I64) -> F32:
        return _unit(np.asarray(pack.features[some], np.float32))

    def scan() -> Iterator[tuple[I64, F32]]:
        for start in range(0, len(pack), _BLOCK):
            some = np.arange(start, min(start + _BLOCK, len(pack)))
            rows = np.asarray(pack.features[start : start + _BLOCK], np.float32)
            there = rows.any(axis=1)
            yield some[there], _unit(rows[there])

    sampled = np.asarray(pack.features[:: -(-len(pack) // _SAMPLE)], np.float32)
    mean = _unit(sampled[sampled.any(axis=1)]).mean(axis=0, dtype=np.float64).astype(np.float32)
    vectors = np.asarray(pack.features[payload.positions], np.float32)
    there = vectors.any(axis=1)
    if not there.any():
        raise DataError(f"{pack.path}: none of the payload's {len(payload)} images has features")
    return Features(f"the pack {pack.path.name}", _unit(vectors[there]), payload.labels[there], mean, scan, of)


def _unit(rows: F32) -> F32:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)
