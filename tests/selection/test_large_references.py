"""A reference too large to hold: rules choose from all of it, as they do from a small one."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.errors import DataError
from plada.labeler import label
from plada.labeler.pseudo_labels import pseudo_label
from plada.labeler.scan import score_all, surest_rows
from plada.labeler.scores import SCORES
from plada.networks.linear_head import Head
from plada.retrieval.index import Index
from plada.selection.rules.registry import RULES


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """So low that little of 1 500 images is held."""
    monkeypatch.setattr(label, "KEEP_ALL", 100)
    monkeypatch.setattr(label, "MIN_DEPTH", 5)
    monkeypatch.setattr(label, "POOL", 1)


def chosen(glyphs: Index, target: Path, rule: str, **options: Any) -> plada.Selection:
    return plada.select(glyphs, target=target, budget=150, rule=rule, home=glyphs.home, **options)


@pytest.mark.parametrize("rule", list(RULES))
def test_every_rule_chooses_what_it_chooses_over_everything(
    glyphs: Index, few_digits: Path, rule: str, request: pytest.FixtureRequest
) -> None:
    everything = chosen(glyphs, few_digits, rule)
    request.getfixturevalue("small_limits")
    large = chosen(glyphs, few_digits, rule)
    assert large.payload.positions.tolist() == everything.payload.positions.tolist()
    assert large.payload.labels.tolist() == everything.payload.labels.tolist()
    assert large.report.reference_counts == everything.report.reference_counts
    assert large.report.looked_at == everything.report.looked_at == 1500


def test_auto_judges_on_what_is_held_unless_it_is_exhaustive(
    glyphs: Index, few_digits: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    everything = chosen(glyphs, few_digits, "auto", out=tmp_path / "a.plada")
    request.getfixturevalue("small_limits")
    assert len(chosen(glyphs, few_digits, "auto").report.tried) > 3
    chosen(glyphs, few_digits, "auto", teacher=plada.TeacherSpec(exhaustive=True), out=tmp_path / "b.plada")
    assert (tmp_path / "b.plada").read_bytes() == (tmp_path / "a.plada").read_bytes()
    assert len(everything.payload) > 0


RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(3000, 16)).astype(np.float16)
HEAD = Head(*(RNG.normal(size=size).astype(np.float32) for size in (16, (16, 7), 7)))


@pytest.mark.parametrize("cuts", [[3000], [5, 0, 1100, 1895], [700, 700, 1600]])
def test_an_images_scores_do_not_depend_on_the_block_that_it_comes_in(cuts: list[int]) -> None:
    edges = np.cumsum([0, *cuts])
    blocks = [(np.arange(a, b), VECTORS[a:b]) for a, b in itertools.pairwise(edges)]
    found = score_all(blocks, HEAD, tuple(SCORES))
    whole = score_all([(np.arange(3000), VECTORS)], HEAD, tuple(SCORES))
    plain = pseudo_label([(np.arange(3000), VECTORS)], HEAD.logits, classes=7)
    for name in SCORES:
        assert found.scores[name].tobytes() == whole.scores[name].tobytes()
        np.testing.assert_allclose(found.scores[name], plain.scores[name], rtol=1e-3, atol=1e-3)
    assert np.array_equal(found.labels, plain.labels)
    assert score_all(blocks, HEAD, ("margin",)).scores.keys() == {"margin"}
    for mine, count in zip(np.bincount(found.labels[surest_rows(found, 9)], minlength=7), found.counts(), strict=True):
        assert mine == min(count, 9)


def test_what_is_not_finite_is_named() -> None:
    broken = VECTORS[:10].copy()
    broken[4] = np.nan
    with pytest.raises(DataError, match="image 12 are not finite"):
        score_all([(3 * np.arange(10), broken)], HEAD, ("margin",))
    with pytest.raises(DataError, match="no readable image"):
        score_all([], HEAD, ("margin",))
