"""Which images a teacher that looks at pictures is shown, through the whole of `plada.select`."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import plada
from plada.retrieval.index import Index


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
