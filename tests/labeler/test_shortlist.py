"""The shortlist is what sorting everything would give, whatever the blocks; choosing from it equals choosing from all."""

import itertools

import numpy as np
import pytest

from plada.errors import DataError
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.shortlist import find_shortlist, leads, with_leads
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
    assert np.array_equal(found.logits, LOGITS[wanted])
    assert found.counts.tolist() == np.bincount(LOGITS.argmax(axis=1), minlength=4).tolist()


def test_choosing_from_the_shortlist_is_choosing_from_all() -> None:
    """A teacher that differs from the pass on a tenth of the images, and a rule that goes down the pass's order."""
    rng = np.random.default_rng(1)
    own = LOGITS + 2 * rng.normal(size=LOGITS.shape).astype(np.float32) * (rng.random(4000) < 0.1)[:, None]

    def chosen(share: float) -> set[int]:
        short = find_shortlist(blocks([4000]), lambda x: x, classes=4, images=4000, share=share)
        said = pseudo_label([(short.positions, own[short.positions])], lambda x: x, classes=4)
        labels: PseudoLabels = with_leads(short, short.positions, said)
        context = Context(lambda p: LOGITS[p], LOGITS[:0], np.zeros(0, np.int64))
        return set(labels.positions[RULES["balanced"].prepare(labels, context)(80).rows].tolist())

    few, every = chosen(0.05), chosen(1.0)
    assert len(few & every) >= 0.99 * len(every)


def test_a_reference_without_embeddings() -> None:
    with pytest.raises(DataError, match="no readable image"):
        find_shortlist([], lambda x: x, classes=3, images=0, share=0.05)
