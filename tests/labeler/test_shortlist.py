"""The shortlist is what sorting everything would give, whatever the blocks; choosing from it equals choosing from all."""

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from plada.errors import DataError
from plada.labeler import shortlist
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.scan import MarginCollector
from plada.labeler.shortlist import find_shortlist, label_leads, leads, two_best, with_leads
from plada.selection.rules.registry import RULES
from plada.selection.rules.rule import Context

LOGITS = np.random.default_rng(0).normal(size=(4000, 4)).astype(np.float32) * 3


def blocks(sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    edges = np.cumsum([0, *sizes])
    return [(np.arange(a, b), LOGITS[a:b]) for a, b in itertools.pairwise(edges)]


def test_leads() -> None:
    np.testing.assert_allclose(leads(np.array([[1.0, 5, 3]], np.float32)), [[-4, 2, -2]])


@pytest.mark.parametrize("sizes", [[4000], [1, 999, 0, 3000], [500] * 8])
def test_the_shortlist_is_the_deepest_of_each_class(sizes: list[int]) -> None:
    found = find_shortlist(blocks(sizes), lambda x: x, classes=4, images=4000, share=0.1)
    lead = leads(LOGITS)
    wanted = np.unique(np.concatenate([np.argsort(-lead[:, c], kind="stable")[:100] for c in range(4)]))
    assert found.positions.tolist() == wanted.tolist()
    assert found.counts.tolist() == np.bincount(LOGITS.argmax(axis=1), minlength=4).tolist()


def test_choosing_from_the_shortlist_is_choosing_from_all() -> None:
    """A teacher that differs from the pass on a tenth of the images, and a rule that goes down the pass's order."""
    rng = np.random.default_rng(1)
    own = LOGITS + 2 * rng.normal(size=LOGITS.shape).astype(np.float32) * (rng.random(4000) < 0.1)[:, None]

    def chosen(share: float) -> set[int]:
        short = find_shortlist(blocks([4000]), lambda x: x, classes=4, images=4000, share=share)
        said = pseudo_label([(short.positions, own[short.positions])], lambda x: x, classes=4)
        labels: PseudoLabels = with_leads(short, said, lambda positions: LOGITS[positions])
        context = Context(lambda p: LOGITS[p], LOGITS[:0], np.zeros(0, np.int64))
        return set(labels.positions[RULES["balanced"].prepare(labels, context)(80).rows].tolist())

    few, every = chosen(0.05), chosen(4.0)
    assert len(few & every) >= 0.99 * len(every)


def test_a_reference_without_embeddings() -> None:
    with pytest.raises(DataError, match="no readable image"):
        find_shortlist([], lambda x: x, classes=3, images=0, share=0.05)


@pytest.mark.parametrize("levels", [3, 7])
def test_equal_leads_go_to_the_lower_position(levels: int) -> None:
    """Few different logits, so that floors are met again and again, and a buffer that is cut many times."""
    logits = np.random.default_rng(3).integers(0, levels, (6000, 3)).astype(np.float32)
    some = [(np.arange(at, at + 250), logits[at : at + 250]) for at in range(0, 6000, 250)]
    found = find_shortlist(some, lambda x: x, classes=3, images=6000, share=0.03)
    lead = leads(logits)
    wanted = np.unique(np.concatenate([np.argsort(-lead[:, c], kind="stable")[:60] for c in range(3)]))
    assert found.positions.tolist() == wanted.tolist()


def test_a_class_may_have_all_images() -> None:
    short = find_shortlist(blocks([500] * 8), lambda x: x, classes=4, images=4000, share=4.0)
    assert short.images == 4000
    assert short.positions.tolist() == list(range(4000))


def test_one_class_has_a_shortlist() -> None:
    logits = LOGITS[:, :1]
    some = [(np.arange(at, at + 100), logits[at : at + 100]) for at in range(0, 4000, 100)]
    found = find_shortlist(some, lambda x: x, classes=1, images=4000, share=0.05)
    assert found.positions.tolist() == np.sort(np.argsort(-logits[:, 0], kind="stable")[:200]).tolist()


def test_logits_that_are_not_finite_are_refused() -> None:
    logits = LOGITS[:9].copy()
    logits[4, 1] = np.nan
    with pytest.raises(DataError, match="logits of image 4 are not finite"):
        find_shortlist([(np.arange(9), logits)], lambda x: x, classes=4, images=9, share=0.5)


@pytest.mark.parametrize("images", [40_000, 160_000])
def test_the_shortlist_is_cut_a_few_times(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once a block; and of images that cannot stay nothing is kept."""
    classes, block = 8, 500
    cuts: list[int] = []
    cut = MarginCollector._cut

    def counted(self: MarginCollector) -> None:
        cuts.append(self.rows)
        cut(self)

    monkeypatch.setattr(MarginCollector, "_cut", counted)

    def drawn() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(0, images, block):
            yield np.arange(at, at + block), np.random.default_rng(at).normal(size=(block, classes)).astype(np.float32)

    found = find_shortlist(drawn(), lambda x: x, classes=classes, images=images, share=400 * classes / images)
    rows = classes * 400
    assert len(found.positions) <= rows
    assert len(cuts) <= 2 + np.log2(images / rows)


def test_memory_does_not_grow_with_images_times_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits of all that is kept would take 80 MB."""
    monkeypatch.setattr(shortlist, "MIN_DEPTH", 10)
    monkeypatch.setattr(shortlist, "_NUMBERS", 1 << 18)
    classes, images, block = 1000, 20_000, 64
    some = np.random.default_rng(0).normal(size=(block, classes)).astype(np.float32)

    def drawn() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(0, images, block):
            yield np.arange(at, at + block), np.roll(some, at // block, axis=1)

    tracemalloc.start()
    found = find_shortlist(drawn(), np.copy, classes=classes, images=images, share=0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.positions) > 5000
    # Leads, four times and while they are sorted; the first block, in which every lead is large; logits, and a copy of 512.
    assert peak < 8 * 20 * classes * 10 + 120 * block * classes < 10 << 20


def test_leads_of_labels_are_those_of_all_classes() -> None:
    labels = np.random.default_rng(5).integers(0, 4, len(LOGITS))
    best, second = two_best(LOGITS)
    expected = leads(LOGITS)[np.arange(len(LOGITS)), labels]
    np.testing.assert_array_equal(label_leads(LOGITS, labels, best, second), expected)
