"""The paper's protocol in miniature: its gaps are named, its tables stand beside ours."""

from pathlib import Path

import pytest

import plada
from plada.api.bench import BenchSummary
from plada.benchmark.methods import PAPERS_RULES
from plada.benchmark.paper_preset import FAR, NATURAL, STUDENT, protocol
from plada.errors import RequestError, UnknownName
from plada.labeler.teachers import TeacherSpec
from plada.networks.network import NetworkSpec, build_network, seed_everything
from plada.sources.catalogue.known import KNOWN
from tests.conftest import make_shades

LINEAR = NetworkSpec(name="linear")
WEIGHTS = TeacherSpec(names="finetune:convnextv2_tiny", weights="w.safetensors")


def test_what_the_text_states_and_what_it_leaves_open() -> None:
    large, small = (protocol("paper", n, teacher=WEIGHTS, student=LINEAR, recipe={}) for n in (14_197_122, 1_281_167))
    assert (large.recipe["epochs"], small.recipe["epochs"]) == (5, 30)
    assert large.recipe["learning_rate"] == 1e-3
    assert large.student == STUDENT
    assert large.teacher.exhaustive
    assert len(large.gaps) >= 10
    other = protocol(
        "paper", 100, teacher=TeacherSpec(names="finetune:small_cnn"), student=LINEAR, recipe={"epochs": 2}
    )
    assert other.gaps[0].startswith("teacher finetune:small_cnn, not the paper's")
    assert "recipe epochs=2, not the paper's 30" in other.gaps
    with pytest.raises(RequestError, match="--teacher-weights"):
        protocol("paper", 100, teacher=None, student=LINEAR, recipe={})
    with pytest.raises(UnknownName, match="unknown preset 'papers'"):
        protocol("papers", 100, teacher=WEIGHTS, student=LINEAR, recipe={})


def test_its_targets_are_registered() -> None:
    known = {name for name, each in KNOWN.items() if each.role != "reference"}
    assert {name.partition(":")[0] for name in (*NATURAL, *FAR)} <= known
    assert (len(NATURAL), len(FAR)) == (10, 4)


def test_the_whole_protocol_in_miniature(glyph_home: Path, tmp_path: Path) -> None:
    shades = make_shades(tmp_path / "shades")
    tables = plada.PaperTables(preset="paper", keep="2%", teacher=TeacherSpec(names="linear"), far="shades")
    student = NetworkSpec(name="test_resnet", image_size=32)

    def run() -> BenchSummary:
        return plada.bench(
            "glyphs", targets=[shades], budgets="60", methods="random", seeds=1, client_has="manifest", workers=1,
            student=student, recipe={"epochs": 1}, paper=tables, out=tmp_path / "out", home=glyph_home,
        )  # fmt: skip

    made = run()
    assert made.measured == 1 + 1 + 7
    text = Path(made.document).read_text()
    assert "teacher linear, student `test_resnet`" in text
    assert "## Gaps in the paper's protocol" in text
    assert all(gap in text for gap in made.gaps)
    assert "paper: Caltech-101" in text
    assert run().measured == 0
    with pytest.raises(RequestError, match="holds a benchmark with teacher"):
        plada.bench(
            "glyphs", targets=[shades], budgets="60", methods="random", seeds=1, client_has="manifest", workers=1,
            student=student, recipe={"epochs": 1, "learning_rate": 1e-3, "body_rate": 1.0},
            out=tmp_path / "out", home=glyph_home,
        )  # fmt: skip


def test_a_fine_tuned_teacher_from_weights(glyph_home: Path, tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch")
    seed_everything(0)
    made_here = build_network(NetworkSpec(name="test_resnet"), classes=5)
    files.save_file(made_here.module.state_dict(), tmp_path / "w.safetensors")
    shades = make_shades(tmp_path / "shades")
    teacher = TeacherSpec(names="finetune:test_resnet", weights=tmp_path / "w.safetensors", image_size=32)
    student = NetworkSpec(name="test_resnet", weights=tmp_path / "w.safetensors", image_size=32)

    def run(out: str, given: TeacherSpec) -> BenchSummary:
        return plada.bench(
            "glyphs", targets=[shades], budgets="800", seeds=1, workers=1, student=student, recipe={"epochs": 1},
            paper=plada.PaperTables(preset="paper", keep="none", teacher=given), client_has="manifest",
            out=tmp_path / out, home=glyph_home,
        )  # fmt: skip

    made = run("first", teacher)
    pictures = {"images-random", "images-k-centre"}
    assert set(made.accuracy) == {*PAPERS_RULES, *pictures, "random", "full-data", "teacher", "oracle"}
    assert made.unfit == 0
    assert made.accuracy["teacher"]["-"] >= 0.7, "light on dark and dark on light"
    assert made.gaps[0] == "teacher finetune:test_resnet, not the paper's finetune:convnextv2_tiny"
    assert any("from w.safetensors" in gap for gap in made.gaps)
    assert "teacher finetune:test_resnet, student `test_resnet`" in Path(made.document).read_text()
    assert run("first", teacher).measured == 0
    with pytest.raises(RequestError, match="holds a benchmark with teacher"):
        run("first", TeacherSpec(names="finetune:test_resnet", weights=tmp_path / "w.safetensors", image_size=24))
    with pytest.raises(RequestError, match="no-such"):
        run("third", TeacherSpec(names="finetune:test_resnet", weights=tmp_path / "no-such.safetensors"))
