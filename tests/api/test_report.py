"""`plada report`: what is said of a payload, with everything that may help and without."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plada
from plada.common.files import home_directory
from plada.errors import DataError, PayloadCorrupt, PayloadUnsupported, ReferenceMismatch, RequestError
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext
from plada.reports.collect import FORECAST, MODEL, TEACHER, ModelTest, collect
from plada.reports.findings import Findings
from plada.selection.table import read_table
from plada.trainer.payload_context import PayloadContext
from tests.conftest import picture


@pytest.fixture(scope="module")
def chosen(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a payload for digits out of 1 500 glyphs (x.plada) and its selection's table (x.parquet)."""
    folder = tmp_path_factory.mktemp("chosen")
    plada.select(
        "glyphs",
        target="digits",
        budget=400,
        rule="nearest",
        recipe={"epochs": 1},
        out=folder / "x.plada",
        home=glyph_home,
    ).write_table(folder / "x.parquet")
    return folder


def found_in(payload: str | Path, home: Path, **changed: Any) -> Findings:
    """What a report would say."""
    context = PayloadContext(home=home, reference=changed.pop("reference", None))
    model, target = changed.pop("model", None), changed.pop("target", None)
    test = ModelTest(model=model, target=target) if model is not None else None
    return collect(payload, context, **{"pictures": 60, "model": test, **changed})


def test_with_the_selections_table(chosen: Path, glyph_home: Path) -> None:
    found = found_in(chosen / "x.plada", glyph_home, selection=chosen / "x.parquet")
    rows = pq.read_table(chosen / "x.parquet").to_pylist()
    said = json.loads(pq.read_schema(chosen / "x.parquet").metadata[b"plada"])["report"]
    assert (found.bytes, found.budget, found.images) == ((chosen / "x.plada").stat().st_size, 400, len(rows))
    assert (found.target, found.rule, found.ranked) == ("digits", "nearest", True)
    assert [each.after for each in found.classes] == list(said["class_counts"].values())
    assert sum(each.before or 0 for each in found.classes) == 1500
    assert [one.who for one in found.accuracies] == [TEACHER, TEACHER, FORECAST]
    assert found.accuracies[0].value == said["teacher"]["accuracy"]
    assert all(
        one.low is not None and one.high is not None and one.low <= one.value <= one.high for one in found.accuracies
    )
    assert found.histogram is not None
    assert sum(found.histogram.counts) == len(rows)
    assert sum(found.sections.values()) == found.bytes
    assert found.coders[found.coder or ""] == found.sections["labels"]
    assert found.paper
    by_key = {row["key"]: row for row in rows}
    for label, each in enumerate(found.classes):
        assert each.scores is not None
        ranks = [shown.rank for shown in each.pictures]
        assert ranks == sorted(ranks)
        assert ranks[0] == 0
        for shown in each.pictures:
            row = by_key[shown.key]
            assert (row["position"], row["label"], row["score"], row["class_rank"]) == (
                shown.position, label, shown.score, shown.rank,
            )  # fmt: skip
            assert shown.url.startswith("data:image/")
    assert 50 <= found.pictures <= 60
    assert [line for line in found.unknown if "accuracy that was reached" not in line] == []


def test_the_command_repeats_the_selection(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    import shlex

    from typer.testing import CliRunner

    from plada.cli import app

    found = found_in(chosen / "x.plada", glyph_home, selection=chosen / "x.parquet")
    words = shlex.split(dict(found.commands)["choose these images again"])
    assert words[:2] == ["plada", "select"]
    first = (chosen / "x.plada").read_bytes(), (chosen / "x.parquet").read_bytes()
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    assert (chosen / "x.plada").read_bytes() == first[0]
    again = found_in(chosen / "x.plada", glyph_home, selection=chosen / "x.parquet")
    assert again == found


def test_with_the_payload_alone(chosen: Path, glyph_home: Path) -> None:
    found = found_in(chosen / "x.plada", glyph_home)
    assert (found.budget, found.ranked, found.histogram, found.points) == (None, False, None, ())
    assert {each.before for each in found.classes} == {None}
    assert found.accuracies == ()
    for each in found.classes:
        assert [shown.position for shown in each.pictures] == sorted(shown.position for shown in each.pictures)
        assert {shown.score for shown in each.pictures} == {None}
    assert found.pictures
    assert "--selection FILE" in found.unknown[0]


def test_without_its_reference_there_are_no_pictures(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    payload = plada.read_payload(chosen / "x.plada", home=glyph_home)
    payload.save(tmp_path / "y.plada", "even-blocks")
    made = plada.report(
        tmp_path / "y.plada", selection=chosen / "x.parquet", out=tmp_path / "r.html", home=tmp_path / "away"
    )
    assert (made.pictures, made.images) == (0, len(payload))
    assert "no collection known here has the payload's key id" in made.unknown[0]
    text = (tmp_path / "r.html").read_text()
    assert "Pictures: no collection known here" in text
    assert "<img" not in text
    assert "Scores" in text


def test_where_labels_cannot_be_read_the_rest_is_said(pictures: Path, tmp_path: Path) -> None:
    images = plada.open_images(pictures)
    ids = images.manifest.key_id, images.manifest.content_id
    payload = Payload(
        np.arange(8, 16), np.arange(8) % 2, ("a", "b"), 24, *ids, notes={"target": "x", "teacher_accuracy": 0.5}
    )
    payload.save(tmp_path / "x.plada", "blocks", shared=SharedContext(np.array([0, 8, 16, 24])))
    closed = found_in(tmp_path / "x.plada", tmp_path / "away")
    assert (closed.images, closed.target, closed.pictures) == (8, "x", 0)
    assert [each.after for each in closed.classes] == [None, None]
    assert [one.value for one in closed.accuracies] == [0.5]
    assert "needs the names of its reference's images" in closed.unknown[0]
    whole = found_in(tmp_path / "x.plada", tmp_path / "away", reference=str(pictures))
    assert ([each.after for each in whole.classes], whole.pictures) == ([4, 4], 8)


def test_another_reference_is_refused_or_not_shown(pictures: Path, tmp_path: Path) -> None:
    images = plada.open_images(pictures)
    payload = Payload(np.arange(4), np.arange(4) % 2, ("a", "b"), 24, images.manifest.key_id, bytes(8))
    payload.save(tmp_path / "x.plada", "even-blocks")
    with pytest.raises(ReferenceMismatch, match="say --same-keys"):
        found_in(tmp_path / "x.plada", home_directory(), reference=str(pictures))
    unnamed = found_in(tmp_path / "x.plada", home_directory())
    assert unnamed.pictures == 0
    assert "the images have other bytes" in unnamed.unknown[0]
    copy = found_in(tmp_path / "x.plada", home_directory(), reference=str(pictures), same_keys=True)
    assert copy.pictures == 4
    assert any("other bytes" in line for line in copy.remarks)


def test_images_that_are_gone_or_changed_are_said(pictures: Path, tmp_path: Path) -> None:
    manifest = plada.open_images(pictures).manifest
    payload = Payload(np.arange(6), np.zeros(6, np.int64), ("a", "b"), 24, manifest.key_id, manifest.content_id)
    payload.save(tmp_path / "x.plada", "even-blocks")
    gone, changed = (next(pictures.glob(f"{key}.*")) for key in manifest.keys_at([1, 2]))
    gone.unlink()
    picture(99).save(changed)
    found = found_in(tmp_path / "x.plada", home_directory(), reference=str(pictures))
    shown = found.classes[0].pictures
    assert [bool(one.url) for one in shown] == [True, False, False, True, True, True]
    assert ["missing" in shown[1].problem, "changed" in shown[2].problem] == [True, True]
    assert any(line.startswith("2 of the images looked at are missing") for line in found.remarks)
    assert "No image is labelled b: students cannot learn it." in found.remarks


def test_a_model_is_tested(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    some: dict[str, Any] = {"student": "small_cnn", "home": glyph_home, "recipe": {"epochs": 2}}
    tested = plada.train(chosen / "x.plada", target="digits", out=tmp_path / "m.safetensors", **some)
    found = found_in(chosen / "x.plada", glyph_home, selection=chosen / "x.parquet", model=tmp_path / "m.safetensors")
    assert found.accuracies[-1].who == MODEL
    assert found.accuracies[-1].value == tested.accuracy
    assert found.confusion is not None
    assert sum(map(sum, found.confusion.counts)) == found.confusion.images
    assert not any("was not trained" in line for line in found.remarks)
    other = plada.read_payload(chosen / "x.plada", home=glyph_home)
    fewer = Payload(
        other.positions[:-1], other.labels[:-1], other.classes, other.reference, other.key_id, other.content_id
    )
    fewer.save(tmp_path / "y.plada", "even-blocks")
    with pytest.raises(RequestError, match="name the --target, too"):
        found_in(tmp_path / "y.plada", glyph_home, model=tmp_path / "m.safetensors")
    found = found_in(tmp_path / "y.plada", glyph_home, model=tmp_path / "m.safetensors", target="digits", pictures=0)
    assert "The model m.safetensors was not trained on this payload." in found.remarks
    assert "Pictures: none were asked for" in found.unknown
    Payload(np.arange(4), np.arange(4) % 2, ("a", "b"), 24, bytes(8), bytes(8)).save(
        tmp_path / "z.plada", "even-blocks"
    )
    with pytest.raises(DataError, match="classes"):
        found_in(tmp_path / "z.plada", glyph_home, model=tmp_path / "m.safetensors", target="digits")


def test_odd_requests(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    for more, words in (
        ({"target": "digits"}, "name the --model"),
        ({"pictures": -1}, "expected 0 or more"),
        ({"budget": "large"}, "size 'large'"),
        ({"rate": ["fast"]}, "rate 'fast'"),
        ({"reference": tmp_path / "nowhere"}, "there is none"),
        ({"selection": tmp_path / "nothing.parquet"}, "cannot be read as Parquet"),
        ({"selection": chosen / "x.plada"}, "cannot be read as Parquet"),
    ):
        with pytest.raises(RequestError, match=words):
            plada.report(chosen / "x.plada", out=tmp_path / "r.html", home=glyph_home, **more)
    with pytest.raises(PayloadCorrupt):
        plada.report(chosen / "x.parquet", out=tmp_path / "r.html", home=glyph_home)
    plada.diff(chosen / "x.plada", chosen / "x.plada", out=tmp_path / "d.plada", home=glyph_home)
    with pytest.raises(PayloadUnsupported, match="plada apply"):
        plada.report(tmp_path / "d.plada", out=tmp_path / "r.html", home=glyph_home)
    assert not (tmp_path / "r.html").exists()
    made = plada.report(chosen / "x.plada", out=tmp_path / "r.html", home=glyph_home, budget=100, rate=["100bps"])
    assert made.budget == 100
    assert "over the budget of 100" in (tmp_path / "r.html").read_text()
    assert "100 bit/s" in (tmp_path / "r.html").read_text()


def altered(source: Path, path: Path, change: Callable[[Any], Any]) -> Path:
    pq.write_table(change(pq.read_table(source)), path)
    return path


def test_tables_that_do_not_fit(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    payload = plada.read_payload(chosen / "x.plada", home=glyph_home)
    source, path = chosen / "x.parquet", tmp_path / "t.parquet"

    def labelled(table: Any, value: Any) -> Any:
        return table.set_column(2, "label", value)

    bad: list[tuple[type[Exception], str, Callable[[Any], Any]]] = [
        (RequestError, "another selection", lambda t: t.slice(1)),
        (RequestError, "another selection", lambda t: labelled(t, pa.array([0] * len(t)))),
        (DataError, "no column 'score'", lambda t: t.drop_columns(["score"])),
        (DataError, "does not hold", lambda t: labelled(t, pa.array(["x"] * len(t)))),
    ]
    for kind, words, change in bad:
        with pytest.raises(kind, match=words):
            read_table(altered(source, path, change), payload)
    again = read_table(altered(source, path, lambda t: t.replace_schema_metadata(None).sort_by("score")), payload)
    assert (again.report, again.options) == ({}, {})
    assert np.array_equal(again.positions, payload.positions)
    assert found_in(chosen / "x.plada", glyph_home, selection=path).unknown[0].startswith("The table says nothing")
    for said in (b"[1]", b"{", b'{"report": 3}'):
        pq.write_table(pq.read_table(source).replace_schema_metadata({"plada": said}), path)
        assert read_table(path, payload).report == {}


def test_a_selection_with_corrections_keeps_them_in_the_lists(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    (tmp_path / "no.txt").write_text("v1/0000001\n")
    (tmp_path / "fix.csv").write_text("key,label\nv1/0000002,7\n")
    about = json.loads(pq.read_schema(chosen / "x.parquet").metadata[b"plada"])
    about["asked"] |= {"exclude": str(tmp_path / "no.txt"), "relabel": str(tmp_path / "fix.csv")}
    table = altered(
        chosen / "x.parquet", tmp_path / "t.parquet", lambda t: t.replace_schema_metadata({"plada": json.dumps(about)})
    )
    found = found_in(chosen / "x.plada", glyph_home, selection=table, pictures=0)
    assert (found.excluded, found.relabelled) == (("v1/0000001",), (("v1/0000002", "7"),))
    (tmp_path / "no.txt").unlink()
    found = found_in(chosen / "x.plada", glyph_home, selection=table, pictures=0)
    assert any("Corrections of before" in line for line in found.remarks)


def test_a_manifest_that_has_let_go_says_the_same(glyph_home: Path) -> None:
    manifest = plada.open_images("glyphs:count=1500", home=glyph_home).manifest
    before = manifest.hash_at(3), manifest.keys_at([3])
    manifest.forget()
    assert (manifest.hash_at(3), manifest.keys_at([3])) == before


def test_the_same_call_writes_the_same_bytes(chosen: Path, glyph_home: Path, tmp_path: Path) -> None:
    pages = []
    for _ in range(2):
        made = plada.report(
            chosen / "x.plada", selection=chosen / "x.parquet", out=tmp_path / "r.html", home=glyph_home
        )
        pages.append((tmp_path / "r.html").read_bytes())
        assert made.bytes == len(pages[-1])
    assert pages[0] == pages[1]
