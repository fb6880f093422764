"""Which images a teacher that looks at pictures is shown, through the whole of `plada.select`."""

import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.progress import silent
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.labeler.evaluation import TeacherReport
from plada.labeler.label import LabelledReference, joint_blocks, label
from plada.labeler.teacher import POSITIONS, VECTORS, Teacher, vote
from plada.labeler.teachers import Ensemble
from plada.retrieval.embeddings import hold
from plada.retrieval.index import Index

EMPTY = EmbeddedSplit(np.zeros((0, 1), np.float32), np.zeros(0, np.int64), 0)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A teacher `watched:say` that calls what is lighter than half bright or dim, by a pattern of its own, and what it was
    shown, in order; a shortlist so short that a rule's choice is not in it."""
    seen: list[bytes] = []

    def say(images: list[Any]) -> list[list[float]]:
        arrays = [np.asarray(image) for image in images]
        seen.extend(array.tobytes() for array in arrays)
        light = [float(array.mean()) - 127.5 + 20 * float(np.sin(array.std())) for array in arrays]
        return [[-value, value] for value in light]

    module = ModuleType("watched")
    module.say = say  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "watched", module)
    monkeypatch.setattr("plada.labeler.shortlist.MIN_DEPTH", 10)
    monkeypatch.setattr("plada.labeler.label.SHARE", 0.1)
    return seen


def select(glyphs: Index, target: Path, rule: str, **options: Any) -> Any:
    teacher = plada.TeacherSpec(names="watched:say", force=True, **options)
    return plada.select(glyphs, target=target, teacher=teacher, rule=rule, keep=0.02, budget="10kB", home=glyphs.home)


@pytest.mark.parametrize("rule", ["herd-even", "herd", "auto"])
def test_a_rule_that_looks_at_the_target_is_asked_what_it_would_choose(
    glyphs: Index, target_folder: Path, shown: list[bytes], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plada.labeler import rounds

    calls: list[int] = []
    ask = rounds.ask_in_rounds

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(len(shown))
        return ask(*arguments, **options)

    monkeypatch.setattr("plada.labeler.label.ask_in_rounds", counted)
    made = select(glyphs, target_folder, rule)
    assert len(calls) == 1
    assert len(shown) > calls[0], "rounds asked for more than the leads"
    assert made.report.looked_at <= 150
    own = {np.asarray(image).tobytes() for image in glyphs.images(made.payload.positions)}
    assert own <= set(shown), "nothing is sent that the teacher has not named"
    again = select(glyphs, target_folder, rule)
    assert np.array_equal(again.payload.positions, made.payload.positions)


@pytest.mark.parametrize("rule", ["balanced", "paper"])
def test_other_rules_take_the_whole_share_by_leads(
    glyphs: Index, target_folder: Path, shown: list[bytes], rule: str
) -> None:
    made = select(glyphs, target_folder, rule)
    assert made.report.looked_at == 150
    assert select(glyphs, target_folder, rule, exhaustive=True).report.looked_at == 1500


def test_a_large_choice_may_take_more_than_the_share(glyphs: Index, target_folder: Path, shown: list[bytes]) -> None:
    teacher = plada.TeacherSpec(names="watched:say", force=True)
    made = plada.select(
        glyphs, target=target_folder, teacher=teacher, rule="herd", keep=0.2, budget="10kB", home=glyphs.home
    )
    assert made.report.images == 300
    assert 300 <= made.report.looked_at <= 450


def test_corrections_of_images_outside_the_shortlist_are_counted(
    glyphs: Index, target_folder: Path, shown: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "fix.csv"
    path.write_text("key,label\n" + "".join(f"{key},dim\n" for key in glyphs.keys(range(1500))))
    made = plada.select(
        glyphs, target=target_folder, teacher=plada.TeacherSpec(names="watched:say", force=True), rule="balanced",
        keep=0.02, budget="10kB", home=glyphs.home, corrections=plada.Corrections(relabel=path),
    )  # fmt: skip
    assert made.report.looked_at == 150
    assert made.report.relabel_note.startswith(f"1350 of the 1500 images of {path} are not among those")
    assert set(made.payload.labels.tolist()) == {1}


def test_votes_and_tables_hold_one_block_of_logits(glyphs: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two teachers that need no pixels: what is labelled block by block is what is labelled at once."""
    monkeypatch.setattr("plada.labeler.label.READ", 64)
    monkeypatch.setattr("plada.labeler.teacher.READ", 64)
    images, classes = len(glyphs), 10
    logits = [np.random.default_rng(seed).normal(size=(images, classes)).astype(np.float32) for seed in range(2)]
    by_position = Teacher(kind="table", classes=classes, needs=POSITIONS, logits=lambda rows: logits[0][rows])
    by_vector = Teacher(
        kind="linear", classes=classes, needs=VECTORS, logits=lambda vectors: vectors[:, :classes].astype(np.float32)
    )
    report = TeacherReport(kind="vote", accuracy=None, validation_accuracy=None)
    ensemble = Ensemble((by_position, by_vector), report)
    blocks = list(joint_blocks(glyphs, ensemble, np.arange(images), glyphs.vectors, silent))
    assert max(len(where) for where, _ in blocks) == 64
    own = by_vector.logits(glyphs.vectors(np.arange(images)))
    np.testing.assert_array_equal(np.concatenate([each for _, each in blocks]), vote([logits[0], own], [1.0, 1.0]))

    labelled: list[LabelledReference] = []
    for limit in (1 << 30, 0):  # held in memory, and read in one pass
        monkeypatch.setattr("plada.labeler.label.hold", partial(hold, limit=limit))
        embedded = EmbeddedTarget(EMPTY, EMPTY)
        labelled.append(
            label(glyphs, ensemble, embedded, exhaustive=False, budget=100, seed=0, choose_rows=None, report=silent)
        )
    for name, score in labelled[0].labels.scores.items():
        np.testing.assert_array_equal(score, labelled[1].labels.scores[name])
    np.testing.assert_array_equal(labelled[0].labels.labels, labelled[1].labels.labels)
