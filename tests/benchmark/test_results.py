"""Figures from rows that are made up, so that every number can be checked by hand; the paper's against its tables."""

import json
from pathlib import Path

import pytest

from plada.benchmark import paper_numbers as paper
from plada.benchmark.document import document
from plada.benchmark.methods import PAPERS_RULES
from plada.benchmark.results import Point, Results, pareto_front
from plada.benchmark.rows import Row, RowFile

TABLES = Path(__file__).resolve().parents[3] / "shared" / "paper" / "tables.json"


def row(
    method: str,
    accuracy: float | None,
    *,
    target: str = "a",
    seed: int = 0,
    size: int | None = 90,
    budget: int | None = 100,
    note: str = "",
) -> Row:
    return Row(
        target=target, seed=seed, method=method, budget=budget, keep=None, bytes=size, images=3, accuracy=accuracy,
        teacher=0.9, seconds=1.0, note=note,
    )  # fmt: skip


def results(*rows: Row, targets: tuple[str, ...] = ("a",)) -> Results:
    return Results(rows, targets, (100,), (), ())


def test_the_oracle_picks_for_each_seed() -> None:
    rows = [row(rule, 0.1 * number, seed=0) for number, rule in enumerate(PAPERS_RULES)]
    rows += [row(rule, 0.5 - 0.1 * number, seed=1) for number, rule in enumerate(PAPERS_RULES)]
    found = results(*rows)
    assert found.mean("oracle", 100) == pytest.approx((0.45, 0.0707), abs=1e-3)
    assert found.mean("energy", 100) == pytest.approx((0.25, 0.3536), abs=1e-3)
    assert results(*rows[:4]).mean("oracle", 100) is None, "one of the five is missing"


def test_leads_pair_targets_and_seeds() -> None:
    rows = [row("auto-pack", 0.8), row("auto-pack", 0.6, seed=1), row("random", 0.5), row("random", 0.5, seed=1)]
    rows += [row("auto-pack", 0.9, target="b"), row("images-random", 0.3, target="b")]
    found = results(*rows, targets=("a", "b"))
    assert found.ours == "auto-pack"
    assert found.lead("random", 100) == pytest.approx(0.2), "target a alone"
    assert found.lead("images-random", 100) == pytest.approx(0.6)
    assert found.lead("entropy", 100) is None
    assert found.leads() == {"100": {"random": 0.2, "images-random": 0.6}}
    assert found.mean("random", 100) is None, "not on every target"
    assert found.means()["auto-pack"] == {"100": 0.8}


def test_what_needs_no_budget_counts_where_it_fits() -> None:
    rows = [
        row("auto-pack", 0.5),
        row("probe-int8", 0.7, budget=None, size=95),
        row("teacher", 0.9, budget=None, size=None),
    ]
    found = results(*rows)
    assert found.lead("probe-int8", 100) == pytest.approx(-0.2)
    assert found.leads()["100"] == {"probe-int8": -0.2}
    larger = results(rows[0], row("probe-int8", 0.7, budget=None, size=101))
    assert larger.lead("probe-int8", 100) is None
    text = document(
        found, [], index="i", images=1000, encoder="e", student="linear", seeds=1, cores=2
    )  # fmt: skip
    assert "- probe-int8 at 100 B (-20.0)" in text
    assert "| teacher | 90.0, not sent |" in text


def test_what_does_not_fit_is_said() -> None:
    rows = [row("auto-pack", 0.5), row("images-random", None, size=444, note="one picture needs more")]
    text = document(
        results(*rows), [], index="i", images=1000, encoder="e", student="linear", seeds=1, cores=2
    )  # fmt: skip
    assert "- images-random at 100 bytes: one picture needs more: 444 bytes (a)" in text
    assert "is above every other method" in text


def test_the_front() -> None:
    points = [
        Point("x", 100, 0.5),
        Point("y", 90, 0.6),
        Point("z", 200, 0.6),
        Point("w", 300, 0.9),
        Point("v", 90, 0.2),
    ]
    assert [point.method for point in pareto_front(points)] == ["y", "w"]


def test_lines_come_back(tmp_path: Path) -> None:
    lines = RowFile(tmp_path, "a b", 3)
    assert lines.read() == []
    for one in (row("random", 0.25), row("paper", None, note="no")):
        lines.append(one)
    with lines.path.open("ab") as file:
        file.write(b'{"target": "a')
    size = lines.path.stat().st_size
    assert lines.read() == [row("random", 0.25), row("paper", None, note="no")]
    assert lines.path.stat().st_size == size, "another process may be writing"
    lines.mend()
    assert lines.path.stat().st_size < size
    assert len(lines.read()) == 2
    lines.append(row("energy", 1.0))
    assert [one.method for one in lines.read()] == ["random", "paper", "energy"]


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    if not TABLES.exists():
        pytest.skip("no ../shared/paper beside this checkout")
    tables = {table["number"]: table for table in json.loads(TABLES.read_text())["tables"]}
    assert {name: list(values) for name, values in paper.KEEP_RATE.items()} == {
        name: values[:6] for name, values in tables[1]["rows"].items()
    }
    assert {name: list(values) for name, values in paper.BASELINES.items()} == {
        name: values[:5] for name, values in tables[2]["rows"].items()
    }
    assert {name: list(values) for name, values in paper.RULES_SIDE_BY_SIDE.items()} == tables[3]["rows"]
    assert [[name, *values] for name, values in paper.SIZES.items()] == tables[4]["rows"]
    assert {name: list(values) for name, values in paper.FAR_OFF.items()} == tables[5]["rows"]
    teachers = {**tables[1]["teacher_accuracy_percent"], **tables[5]["teacher_accuracy_percent"]}
    assert dict(paper.TEACHERS) == teachers
    for part, reference in ((slice(0, 6), "ImageNet-21K"), (slice(6, 12), "ImageNet-1K")):
        columns = zip(*(values[part] for values in tables[1]["rows"].values()), strict=True)
        means = [round(sum(column) / 10, 2) for column in columns]
        assert means == pytest.approx(list(paper.KEEP_RATE_MEANS[reference]), abs=0.011)
    sizes = [values[0] for values in tables[2]["payload_KB_mean_sem"].values() if values]
    assert sizes == list(paper.BASELINE_KB)
    assert set(paper.KIN.values()) <= set(paper.KEEP_RATE)
