"""benchmarks/student_networks.py: what is known is reused, a stopped run goes on, and the section says what is missing."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lancedb")

from benchmarks import student_networks
from benchmarks.selection import OURS, Point
from benchmarks.student_networks import ALL, AUTO, CLIENT, FULL, LITE0, ORACLE, RANDOM, SERVER, Cell
from plada.benchmark.methods import PAPERS_RULES
from plada.benchmark.students import StudentPlan
from plada.networks.network import SMALL_CNN, NetworkSpec
from tests.conftest import make_shades


def points(target: str) -> list[Point]:
    """A cell of benchmarks/selection.py: the rule `paper` is best for one student, `energy` for the other."""
    listed = [
        Point(
            target, 0, 500, rule, rule, 10, 499, 50.0 + (rule == "paper"), (40.0, 41.0 + (rule == "energy")), 90.0, 1.0
        )
        for rule in (*PAPERS_RULES, "random")
    ]
    listed.append(Point(target, 0, 500, OURS, "herd-sure", 12, 497, 60.0, (55.0, 54.0), 90.0, 1.0))
    listed.append(Point(target, 0, 500, f"N, {OURS}", "herd-sure", 12, 497, 70.0, (70.0,), 90.0, 1.0))
    return listed


def test_the_plan_begins_with_what_is_cheap() -> None:
    keys = student_networks.plan(["a", "b"], [1000, 500], [0, 1])
    assert len(keys) == len(set(keys)) == 2 * (2 * 2 * (2 * 3 + 2) + 2 * 2 * (2 * 3 + 1) + 2)
    assert {key[3] for key in keys[:28]} == {SERVER, CLIENT}
    networks = [key for key in keys if key[3] in (LITE0, SMALL_CNN)]
    assert {key[1:3] for key in networks[:12]} == {(0, 500)}
    assert [key[4] for key in keys[-4:]] == [ALL] * 4
    assert keys.index(("b", 0, 500, LITE0, RANDOM)) < keys.index(("a", 0, 1000, SMALL_CNN, AUTO))


def test_what_other_benchmarks_measured_is_reused() -> None:
    cells = student_networks.known_cells(points("a"), student_networks.plan(["a"], [500], [0]))
    found = {(cell.student, cell.method): (cell.rule, cell.accuracy) for cell in cells}
    assert found == {
        (SERVER, AUTO): ("herd-sure", 60.0), (SERVER, ORACLE): ("paper", 51.0), (SERVER, RANDOM): ("random", 50.0),
        (CLIENT, AUTO): ("herd-sure", 55.0), (CLIENT, ORACLE): ("energy", 42.0), (CLIENT, RANDOM): ("random", 41.0),
        (LITE0, AUTO): ("herd-sure", 70.0),
    }  # fmt: skip
    some = [p for p in points("a") if p.how != "entropy"]
    assert student_networks.chosen(some, "a", 0, 500, SERVER, ORACLE) is None, "not the best of what is known so far"


def test_the_section_says_what_is_missing(tmp_path: Path) -> None:
    keys = student_networks.plan(["a"], [500], [0])
    cells = student_networks.known_cells(points("a"), keys)
    text = "\n".join(student_networks.document(cells, keys, "the command"))
    assert (
        f"7 of {len(keys)} cells were measured. Missing: 2 of server, 2 of client, 4 of lite0, 5 of small_cnn." in text
    )
    assert "| a | 60.0 | 51.0 | 50.0 | - | - |" in text
    assert "| a | 70.0 | - | - | - | - |" in text
    assert student_networks.figures(cells, keys)["client_auto_over_oracle"] == 13.0
    assert student_networks.figures(cells, keys)["lite0_auto_over_oracle"] is None
    second = [Cell("a", 1, 500, SERVER, AUTO, "core", 9, 490, 64.0, 1.0)]
    both = "\n".join(student_networks.document([*cells, *second], student_networks.plan(["a"], [500], [0, 1]), "x"))
    assert "| a | 62.0 +- 2.8 | 51.0 | 50.0 | - | - |" in both
    assert "| linear, server's encoder | 500 | 1 | 60.0 | 51.0 | 50.0 |" in both, "means of the same runs"
    pytest.importorskip("matplotlib")
    student_networks.draw(cells, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on(
    glyph_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = StudentPlan(network=NetworkSpec(name=SMALL_CNN), recipe={"epochs": 1})
    monkeypatch.setattr(student_networks, "network", lambda student, weights: plan)
    monkeypatch.setenv("PLADA_HOME", str(tmp_path / "home"))
    shades = make_shades(tmp_path / "shades")

    def run(*more: str) -> dict[str, float]:
        options = [
            "--index",
            "glyphs",
            "--client-index",
            "glyphs",
            "--index-home",
            str(glyph_home),
            "--budgets",
            "80",
            "--seeds",
            "0",
        ]
        options += ["--keep", str(tmp_path / "kept.jsonl"), "--out", str(tmp_path / "b.md"), "--json", *more]
        monkeypatch.setattr(sys, "argv", ["student_networks.py", *options, str(shades)])
        student_networks.main()
        figures: dict[str, float] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return figures

    assert run("--hours", "0")["cells"] == 0
    assert run()["missing"] == 0
    text = (tmp_path / "b.md").read_text()
    assert "20 of 20 cells were measured." in text
    assert "Missing" not in text
    kept = (tmp_path / "kept.jsonl").read_text().splitlines()
    assert {json.loads(line)["method"] for line in kept} == {AUTO, ORACLE, RANDOM, ALL, FULL}
    (tmp_path / "kept.jsonl").write_text("\n".join(kept[:-2]) + "\n" + kept[-2][:20])
    assert run("--hours", "0")["missing"] == 2
    assert run()["missing"] == 0
    again = (tmp_path / "kept.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["method"] for line in again) == sorted(json.loads(line)["method"] for line in kept)
