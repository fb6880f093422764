"""The laws of size, on small forms of what is large: memory that grows with images only by what is stated, and no stage whose
work or memory is quadratic in classes. Nothing is timed: peaks are those of tracemalloc, work is counted."""

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plada.common.progress import Progress, silent
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.labeler.evaluation import TeacherReport
from plada.labeler.label import label
from plada.labeler.linear_teacher import train_linear
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scan import scan_linear
from plada.labeler.shortlist import find_shortlist
from plada.labeler.splits import stratified
from plada.labeler.teacher import POSITIONS, VECTORS, Teacher
from plada.labeler.teachers import Ensemble
from plada.networks.linear_head import Head
from plada.retrieval.embeddings import hold
from plada.selection.rules.rule import Context, class_pools
from plada.selection.rules.shares import herd_sure
from plada.trainer.evaluation import evaluate_logits

DIMENSION, BLOCK = 8, 512
NOWHERE = Path(__file__) / "no folder"  # where nothing can be written
EMPTY = EmbeddedSplit(np.zeros((0, DIMENSION), np.float32), np.zeros(0, np.int64), 0)


class Synthetic:
    """An index of `images` embeddings that are made when they are asked for; what is read is counted."""

    dimension = DIMENSION

    def __init__(self, images: int, home: Path = NOWHERE) -> None:
        self.home = home
        self.readable = images
        self.mean = np.zeros(DIMENSION, np.float32)
        self.taken = 0

    def scan(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(0, self.readable, BLOCK):
            rows = np.arange(at, min(at + BLOCK, self.readable))
            yield rows, drawn(rows)

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        self.taken += len(positions)
        return drawn(positions)


def drawn(positions: np.ndarray) -> np.ndarray:
    """Embeddings that depend on positions alone."""
    mixed = (positions[:, None] * 2654435761 + np.arange(DIMENSION) * 40503) % 1_000_003
    return (mixed / 1_000_003 - 0.5).astype(np.float16)


def head_of(classes: int) -> Head:
    rng = np.random.default_rng(classes)
    weight = rng.normal(size=(DIMENSION, classes)).astype(np.float32)
    return Head(np.zeros(DIMENSION, np.float32), weight, np.zeros(classes, np.float32))


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        kept = work()
        del kept
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def votes(images: int, classes: int, home: Path = NOWHERE) -> Synthetic:
    """A vote of a linear teacher and a table over everything, embeddings not held in memory."""
    head, index = head_of(classes), Synthetic(images, home)
    linear = Teacher(kind="linear", classes=classes, needs=VECTORS, logits=head.logits)
    table = Teacher(kind="table", classes=classes, needs=POSITIONS, logits=lambda rows: head.logits(drawn(rows)))
    ensemble = Ensemble((linear, table), TeacherReport(kind="vote", accuracy=None, validation_accuracy=None))
    own: Any = index
    label(
        own, ensemble, EmbeddedTarget(EMPTY, EMPTY), exhaustive=False, budget=100, seed=0, choose_rows=None,
        report=silent,
    )  # fmt: skip
    return index


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.labeler.label.READ", BLOCK)
    monkeypatch.setattr("plada.labeler.teacher.READ", BLOCK)
    monkeypatch.setattr("plada.labeler.label.hold", partial(hold, limit=0))


@pytest.mark.usefixtures("small_blocks")
def test_votes_keep_scores_of_an_image_and_no_logits() -> None:
    """With 100 classes two teachers' logits would take 800 bytes an image."""
    few, many = (peak_of(partial(votes, images, 100)) for images in (8_000, 40_000))
    assert (many - few) / 32_000 < 100


@pytest.mark.usefixtures("small_blocks")
def test_embeddings_that_memory_does_not_hold_are_never_taken_row_by_row(tmp_path: Path) -> None:
    """From a mapped file, or where no such file can be, in one pass."""
    assert votes(4_000, 5, tmp_path).taken == 0
    assert votes(4_000, 5).taken == 0


def test_a_shortlist_takes_its_own_memory_whatever_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.labeler.shortlist.MIN_DEPTH", 20)
    head = head_of(20)

    def shortlist(images: int) -> object:
        return find_shortlist(Synthetic(images).scan(), head.logits, classes=20, images=images, share=0.0)

    few, many = (peak_of(partial(shortlist, images)) for images in (20_000, 100_000))
    assert many < 1.2 * few


def test_the_linear_pass_takes_the_memory_of_what_it_keeps() -> None:
    def scanned(images: int) -> object:
        return scan_linear(Synthetic(images).scan(), head_of(20), depth=20)

    few, many = (peak_of(partial(scanned, images)) for images in (20_000, 100_000))
    assert many < 1.2 * few


def test_an_evaluation_grows_with_classes_as_their_names_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as their square: a matrix of 3 000 classes would take 72 MB."""
    monkeypatch.setattr("plada.trainer.evaluation._NUMBERS", 1 << 16)
    images, rng = 3_000, np.random.default_rng(0)

    def evaluated(classes: int) -> Callable[[], object]:
        labels = rng.integers(0, classes, images)
        logits = np.zeros((images, classes), np.float32)
        names = tuple(map(str, range(classes)))
        return lambda: evaluate_logits(logits, labels, names).to_dict()

    few, many = peak_of(evaluated(1_000)), peak_of(evaluated(3_000))
    assert many - few < 2_000 * 2_500


class Counted(np.ndarray):
    """An array that counts the elements of comparisons, indexing aside: what a search class by class would make."""

    elements = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(each) for each in inputs]
        Counted.elements += max(each.size for each in plain)
        return getattr(ufunc, method)(*plain, **options)


@pytest.mark.parametrize("work", ["stratified", "class_pools"])
def test_dealing_out_and_pools_do_not_look_at_everything_for_each_class(work: str) -> None:
    images = 20_000
    rng = np.random.default_rng(0)
    counts = []
    for classes in (10, 1_000):
        labels = rng.integers(0, classes, images).view(Counted)
        Counted.elements = 0
        if work == "stratified":
            stratified(labels, 5, seed=0)
        else:
            margin = rng.random(images).astype(np.float32)
            class_pools(PseudoLabels(np.arange(images), labels, {"margin": margin}, classes))
        counts.append(Counted.elements)
    assert counts[1] <= counts[0] + 10 * images


def test_dealing_out_by_one_sort_is_dealing_out_class_by_class() -> None:
    labels = np.random.default_rng(2).integers(0, 30, 1000)
    labels[labels == 7] = 3
    rng, expected, at = np.random.default_rng([4, 5]), np.zeros(1000, np.int64), 0
    for each in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == each))
        expected[rows] = (at + np.arange(len(rows))) % 5
        at += len(rows)
    assert stratified(labels, 5, seed=4).tolist() == expected.tolist()


def test_cross_validation_of_a_large_target_keeps_no_logits_of_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """One-hot labels of the images would take 8 and 32 MB, logits half of it; and every stage is named."""
    monkeypatch.setattr("plada.labeler.linear_teacher.SAMPLE", 1 << 16)
    monkeypatch.setattr("plada.networks.linear_head.LARGE", 1 << 16)
    monkeypatch.setattr("plada.networks.solver._NUMBERS", 1 << 15)
    monkeypatch.setattr("plada.networks.solver.cores", lambda: 2)
    monkeypatch.setattr("plada.labeler.linear_teacher.CROSS_STEPS", 2)
    classes = 50
    events: list[Progress] = []

    def taught(images: int) -> Callable[[], object]:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, classes, images)
        vectors = rng.normal(size=(images, DIMENSION)).astype(np.float32)
        own: Any = Synthetic(images)
        embedded = EmbeddedTarget(EmbeddedSplit(vectors, labels, 0), EMPTY)
        return lambda: train_linear(own, classes, embedded, 0, events.append)

    few, many = peak_of(taught(20_000)), peak_of(taught(80_000))
    # Embeddings are joined once (32 bytes each), with labels, places and an order.
    assert (many - few) / 60_000 < 32 + 8 * 8
    assert {event.stage for event in events} == {"teacher: penalty", "teacher: fit"}


def test_quotas_are_corrected_without_the_answers_of_all_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their logits take 16 MB, and their softmax three times as much: 15 GB with a million images of a thousand classes."""
    classes, shown, rng = 100, 40_000, np.random.default_rng(0)
    positions = np.arange(1_000)
    labels = PseudoLabels(positions, positions % classes, {"margin": rng.random(1_000).astype(np.float32)}, classes)
    target = rng.normal(size=(shown, DIMENSION)).astype(np.float32)
    context = Context(lambda wanted: drawn(wanted).astype(np.float32), target, np.arange(shown) % classes)
    chosen, peaks = [], []
    for numbers in (1 << 25, 1 << 16):
        monkeypatch.setattr("plada.selection.rules.shares._NUMBERS", numbers)
        rule = herd_sure(labels, context)
        peaks.append(peak_of(partial(lambda choose: chosen.append(choose(300).rows), rule)))
    assert np.array_equal(*chosen)
    assert peaks[0] > 4 * shown * classes * 2
    assert peaks[1] < shown * classes
