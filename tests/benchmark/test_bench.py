"""`plada bench` as people use it: resumed like unbroken, foreign folders refused, tables and pictures there."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import plada
from plada.api.bench import BenchSummary, PaperTables
from plada.benchmark.rows import Row, RowFile
from plada.common.progress import Progress
from plada.errors import BudgetTooSmall, DataError, RequestError, UnknownName
from plada.networks.network import NetworkSpec
from tests.conftest import make_shades

QUICK = "herd-sure-manifest,oracle,random,images-random-shrunk,probe-axes,probe-int8,full-data"


SHADES: list[Path] = []  # where the fixture below has put the target


@pytest.fixture(scope="module", autouse=True)
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of ten images: a scenario of a second."""
    SHADES[:] = [make_shades(tmp_path_factory.mktemp("target") / "shades")]
    return SHADES[0]


def bench(home: Path, out: Path, **options: Any) -> BenchSummary:
    asked: dict[str, Any] = {
        "targets": [SHADES[0]], "budgets": "90,300", "methods": QUICK, "seeds": 2, "workers": 1,
        "client_has": "manifest",
    }  # fmt: skip
    paper = PaperTables(keep=options.pop("keep", "2%,10%"), far=options.pop("far", None))
    return plada.bench("glyphs", home=home, out=out, paper=paper, **{**asked, **options})


@pytest.fixture(scope="module")
def unbroken(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchSummary, Path]:
    out = tmp_path_factory.mktemp("bench") / "whole"
    return bench(glyph_home, out), out


def told(out: Path) -> list[dict[str, Any]]:
    """All rows but what a clock says."""
    rows = pq.read_table(out / "table.parquet").to_pylist()
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_every_cell_has_a_row_or_a_reason(unbroken: tuple[BenchSummary, Path]) -> None:
    made, out = unbroken
    rows = told(out)
    # Per seed: 5 + 1 + 1 + 1 + 1 methods at two budgets, 3 without a budget; 7 rules at the first keep rate, 3 at the second.
    assert made.rows + made.unfit == made.measured == 2 * (9 * 2 + 3 + 7 + 3)
    assert made.rows == len(rows)
    for row in rows:
        assert row["target"] == "shades"
        assert 0 <= row["accuracy"] <= 1
        assert 0.5 < row["teacher"] <= 1
        if row["budget"] is not None:
            assert 0 < row["bytes"] <= row["budget"]
    kept = {row["keep"]: row["images"] for row in rows if row["keep"] is not None}
    assert kept == {0.02: 30, 0.1: 150}
    assert {row["seed"] for row in rows} == {0, 1}


def test_what_is_said_is_what_the_rows_say(unbroken: tuple[BenchSummary, Path]) -> None:
    made, out = unbroken
    rows = [row for row in told(out) if row["budget"] == 300]
    rules = ("energy", "high-energy", "paper", "paper-0.2", "entropy")

    def of(method: str, seed: int) -> float:
        return float(next(row["accuracy"] for row in rows if (row["method"], row["seed"]) == (method, seed)))

    oracle = [max(of(rule, seed) for rule in rules) for seed in (0, 1)]
    assert made.accuracy["oracle"]["300"] == pytest.approx(sum(oracle) / 2, abs=1e-4)
    assert made.ours == "herd-sure-manifest"
    mine = sum(of("herd-sure-manifest", seed) for seed in (0, 1)) / 2
    assert made.lead["300"]["oracle"] == pytest.approx(mine - sum(oracle) / 2, abs=1e-4)
    assert made.ahead["300"] == all(value > 0 for value in made.lead["300"].values())
    assert made.accuracy["teacher"]["-"] == made.accuracy["full-data"]["-"]
    json.dumps(made.to_dict(), allow_nan=False)


def test_the_document_and_the_pictures(unbroken: tuple[BenchSummary, Path]) -> None:
    made, out = unbroken
    text = (out / "bench.md").read_text()
    for words in ("herd-sure-manifest", "oracle", "table 1", "table 3", "table 4", "ImageNet-21K", "What was not run here", "plada bench --index imagenet21k"):  # fmt: skip
        assert words in text
    assert f"{100 * made.accuracy['random']['300']:.1f}" in text
    assert str(out.parent) not in text
    names = {Path(path).name for path in made.pictures}
    assert names == {"pareto.png", "keep.png", "rules.png", "sizes.png"}
    for name in names:
        with Image.open(out / name) as image:
            assert image.width > 500
            assert len(image.convert("RGB").getcolors(1 << 24) or []) > 20
    assert "far.png" not in text


def test_the_same_call_measures_nothing_again(unbroken: tuple[BenchSummary, Path], glyph_home: Path) -> None:
    _, out = unbroken
    before, text = told(out), (out / "bench.md").read_text()
    again = bench(glyph_home, out)
    assert again.measured == 0
    assert told(out) == before
    assert (out / "bench.md").read_text() == text
    fewer = bench(glyph_home, out, budgets="300", keep="none", methods="random")
    assert (fewer.measured, fewer.rows) == (0, 4)
    assert bench(glyph_home, out).rows == again.rows


@pytest.mark.parametrize("after", [1, 11])
def test_resumed_is_like_unbroken(
    unbroken: tuple[BenchSummary, Path], glyph_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    out, real, count = tmp_path / "broken", RowFile.append, 0

    def stop(self: RowFile, row: Row) -> None:
        nonlocal count
        if count == after:
            with self.path.open("ab") as file:  # as a kill in the middle of a write leaves it
                file.write(b'{"target": "sha')
            raise KeyboardInterrupt
        count += 1
        real(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(RowFile, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            bench(glyph_home, out)
    said: list[Progress] = []
    again = bench(glyph_home, out, report=said.append)
    assert again.measured == unbroken[0].measured - after
    assert said[-1].done == said[-1].total == again.measured
    assert told(out) == told(unbroken[1])
    assert (out / "bench.md").read_text() == (unbroken[1] / "bench.md").read_text()


def test_worker_processes_measure_the_same(
    unbroken: tuple[BenchSummary, Path], glyph_home: Path, tmp_path: Path
) -> None:
    made = bench(glyph_home, tmp_path / "two", workers=2)
    assert made.measured == unbroken[0].measured
    assert told(tmp_path / "two") == told(unbroken[1])


def test_another_target_joins(
    unbroken: tuple[BenchSummary, Path], glyph_home: Path, tmp_path: Path, target_folder: Path
) -> None:
    options: dict[str, Any] = {"methods": "random,herd-sure-manifest", "keep": "2%", "seeds": 1}
    other = target_folder.rename(target_folder.with_name("tones"))
    first = bench(glyph_home, tmp_path / "x", **options)
    both = bench(glyph_home, tmp_path / "x", targets=[SHADES[0], other], far="tones", **options)
    assert both.measured == first.measured
    assert both.targets == ("shades", "tones")
    assert {Path(path).name for path in both.pictures} >= {"far.png"}
    assert "table 5" in (tmp_path / "x" / "bench.md").read_text()
    (other / "test" / "dim" / "0.png").write_bytes((other / "test" / "bright" / "0.png").read_bytes())
    with pytest.raises(RequestError, match="rows of target tones with other images"):
        bench(glyph_home, tmp_path / "x", targets=[SHADES[0], other], **options)


def test_by_the_name_of_the_images(glyph_home: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"targets": SHADES, "budgets": [150], "methods": "random", "paper": PaperTables(keep=()), "seeds": 1, "workers": 1, "client_has": "manifest"}  # fmt: skip
    made = plada.bench(reference="glyphs:count=1500", home=glyph_home, out=tmp_path / "x", **options)
    assert made.rows == 2
    with pytest.raises(RequestError, match="there is no index of these images"):
        plada.bench(reference="glyphs:count=60", home=glyph_home, out=tmp_path / "y", **options)
    with pytest.raises(RequestError, match="not both"):
        plada.bench("glyphs", reference="glyphs:count=1500", home=glyph_home, out=tmp_path / "y", **options)


Refusal = tuple[dict[str, Any], type[Exception], str]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"targets": "digit"}, UnknownName, "did you mean 'digits'"),
        ({"targets": "digits,digits"}, RequestError, "named twice"),
        ({"targets": []}, RequestError, "at least one target"),
        ({"methods": "oracl"}, UnknownName, "did you mean 'oracle'"),
        ({"budgets": "lots"}, RequestError, "expected a number with"),
        ({"keep": "120%"}, RequestError, "expected a share such as 1%"),
        ({"seeds": 0}, RequestError, "at least one of each"),
        ({"client_has": "nothing"}, RequestError, "expected manifest or pack"),
        ({"student": "small_cn"}, UnknownName, "did you mean 'small_cnn'"),
        (
            {"student": NetworkSpec(name="test_vit", image_size=161)},
            RequestError,
            "takes no images of 161 x 161 pixels",
        ),
        ({"far": "cifar10"}, UnknownName, "known: shades"),
    ],
)
def test_what_cannot_be_measured(
    glyph_home: Path, tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        bench(glyph_home, tmp_path / "x", **options)
    assert not list(tmp_path.glob("x/rows/*"))


def test_a_budget_too_small_for_all(glyph_home: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetTooSmall) as caught:
        bench(glyph_home, tmp_path / "x", budgets="3", methods="herd-sure-manifest,images-random", keep="none", seeds=1)
    least = caught.value.least
    made = bench(glyph_home, tmp_path / "x", budgets=[least], methods="herd-sure-manifest", keep="none", seeds=1)
    assert made.accuracy["herd-sure-manifest"][str(least)] > 0.4


def test_a_target_without_test_images(glyph_home: Path, tmp_path: Path, target_folder: Path) -> None:
    import shutil

    shutil.rmtree(target_folder / "test")
    with pytest.raises(RequestError, match="no test images"):
        bench(glyph_home, tmp_path / "x", targets=[target_folder])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("thesis.tex", "x", "no benchmark"), ("bench.json", "[]", "not written by `plada bench`")],
)
def test_foreign_folders_are_refused(glyph_home: Path, tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text(text)
    with pytest.raises(RequestError, match=words):
        bench(glyph_home, tmp_path / "a")
    assert [(path.name, path.read_text()) for path in (tmp_path / "a").iterdir()] == [(name, text)]


def test_another_run_is_refused(unbroken: tuple[BenchSummary, Path], glyph_home: Path) -> None:
    _, out = unbroken
    with pytest.raises(RequestError, match='with student "linear"; this one has "small_cnn"'):
        bench(glyph_home, out, student="small_cnn", methods="random")


def test_a_line_that_is_no_row(glyph_home: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": "random", "keep": "none", "seeds": 1}
    bench(glyph_home, tmp_path / "x", **options)
    path = tmp_path / "x" / "rows" / "shades-0.jsonl"
    path.write_text(path.read_text() + '{"method": "random"}\n')
    with pytest.raises(DataError, match="line 4 is no row"):
        bench(glyph_home, tmp_path / "x", **options)
