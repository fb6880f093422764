"""The benchmark of odd inputs: there are cases of every kind, and each outcome is told from the others."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import inputs
from benchmarks.faults_material import Material
from benchmarks.inputs import CASES, OTHER, RIGHT, SILENT, TRACEBACK, judge
from benchmarks.inputs_material import KINDS, Case, World
from plada.errors import DataError, RequestError


def raising(err: Exception) -> Any:
    def ask(_: World) -> None:
        raise err

    return ask


@pytest.mark.parametrize(
    ("outcome", "case"),
    [
        (RIGHT, {"ask": lambda _: 3, "answer": 3}),
        (SILENT, {"ask": lambda _: 4, "answer": 3}),
        (RIGHT, {"ask": lambda _: "it is said", "says": "is s"}),
        (SILENT, {"ask": lambda _: "", "says": "is s"}),
        (RIGHT, {"ask": raising(DataError("a: cut")), "error": DataError, "says": "cut"}),
        (OTHER, {"ask": raising(DataError("a: cut")), "error": DataError, "says": "damaged"}),
        (OTHER, {"ask": raising(RequestError("a: cut")), "error": DataError, "says": "cut"}),
        (OTHER, {"ask": raising(DataError("a")), "answer": 3}),
        (SILENT, {"ask": lambda _: 3, "error": DataError, "says": "cut"}),
        (TRACEBACK, {"ask": raising(KeyError("a")), "error": DataError, "says": "a"}),
        (TRACEBACK, {"ask": raising(KeyError("a")), "answer": 3}),
    ],
)
def test_outcomes_are_told_apart(outcome: str, case: dict[str, Any], tmp_path: Path) -> None:
    world = World(tmp_path, Material(tmp_path))
    assert judge(Case(kind="tables", name="x", **case), world)[0] == outcome


def test_there_are_cases_of_every_kind_with_names_of_their_own() -> None:
    assert len(CASES) >= 150
    counts = Counter(case.kind for case in CASES)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) >= 25
    assert not [name for name, count in Counter((case.kind, case.name) for case in CASES).items() if count > 1]


def test_tables_have_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLADA_HOME", "")  # put back afterwards
    outcomes = inputs.measure(["tables"])
    assert outcomes.wrong == []
    assert outcomes.total(RIGHT) == outcomes.counts["tables"].total()
    lines = inputs.report(outcomes)
    assert lines[0] == "## Inputs"
    assert lines[-1].startswith(f"| all | {outcomes.total(RIGHT)} | {outcomes.total(RIGHT)} | 0 |")
