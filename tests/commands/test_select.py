"""`plada select`, option by option, as typed: each does what the Python argument of its name does, and is reported."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import plada
from plada.retrieval.index import Index
from tests.test_cli import call, refused, summary

# For the target of two shades, whose teacher takes a tenth of the time that the digits' takes; not all images fit.
SMALL = ("--budget", "110", "--rule", "balanced")
DIGITS = "classes:0,1,2,3,4,5,6,7,8,9"
ROOM = ("--budget", "400", "--rule", "balanced")  # for ten classes


def selecting(home: Path, out: Path, *more: str | Path, target: str | Path = "digits") -> tuple[str | Path, ...]:
    return ("select", "--target", target, "--home", home, "-o", out, *more)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teachers of the user's, in the working directory: `good` measures how bright an image is, `nans` is broken."""
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "def good(images):\n"
        "    light = [float(np.asarray(image).mean()) for image in images]\n"
        "    return [[-x, x - 255] if x > 127 else [x - 127, -x] for x in light]\n"
        "def nans(images):\n    return [[float('nan')] * 10 for _ in images]\n"
        "def narrow(images):\n    return [[0.0] * 9 for _ in images]\n"
        "def same(images):\n    return [[0.0] * 10 for _ in images]\n"
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--rule", "herd-even", "--budget", "110"), {"rule": "herd-even"}),
        (("--keep", "2%", "--rule", "balanced", "--budget", "10kB"), {"images": 30, "keep_rate": 0.02}),
        (("--keep", "0.01", "--rule", "energy", "--budget", "10kB"), {"images": 15, "rule": "energy"}),
        ((*SMALL, "--labels", "hard"), {"labels": "hard", "label_bytes": 0}),
        (("--labels", "soft", "--budget", "150", "--rule", "balanced"), {"labels": "soft"}),
        (("--labels", "dirichlet", "--budget", "150", "--rule", "balanced"), {"labels": "dirichlet"}),
        ((*SMALL, "--client-has", "nothing"), {"client_has": "nothing"}),
        ((*SMALL, "--serial", "7"), {"serial": 7}),
        ((*SMALL, "--distinct", "0.999"), {"rule": "balanced"}),
        (("--budget", "150", "--rule", "balanced", "--progressive", "layers"), {"progressive": "layers"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_does_what_it_says(
    glyph_home: Path, target_folder: Path, tmp_path: Path, options: tuple[str, ...], expected: dict[str, object]
) -> None:
    found = summary(*selecting(glyph_home, tmp_path / "x", *options, target=target_folder))
    assert {name: found[name] for name in expected} == expected
    assert found["bytes"] == (tmp_path / "x").stat().st_size <= found["budget"]
    names = {
        option.removeprefix("--").replace("-", "_"): value for option, value in zip(*[iter(options)] * 2, strict=True)
    }
    names = {
        name: float(value) if name == "distinct" else int(value) if name == "serial" else value
        for name, value in names.items()
    }
    delivery = plada.Delivery(
        **{name: names.pop(name) for name in ("client_has", "serial", "progressive") if name in names}
    )
    corrections = plada.Corrections(**{name: names.pop(name) for name in ("distinct",) if name in names})
    plada.select(
        target=target_folder, home=glyph_home, out=tmp_path / "y", delivery=delivery, corrections=corrections, **names
    )
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize("teacher", ["linear", "finetune:small_cnn", "linear,finetune:small_cnn"])
def test_teachers_that_plada_trains(glyph_home: Path, target_folder: Path, tmp_path: Path, teacher: str) -> None:
    found = summary(*selecting(glyph_home, tmp_path / "x", *SMALL, "--teacher", teacher, target=target_folder))
    assert found["teacher"]["kind"] == teacher.replace(",", "+")
    assert [one["kind"] for one in found["teacher"]["members"]] == (teacher.split(",") if "," in teacher else [])
    assert found["teacher"]["accuracy"] >= 0.8
    low, high = found["teacher"]["interval"]
    assert low < found["teacher"]["accuracy"] <= high == 1.0
    assert (found["looked_at"] == 1500) == (teacher == "linear")


def test_a_function_of_the_users(glyph_home: Path, target_folder: Path, tmp_path: Path, own: None) -> None:
    some = selecting(glyph_home, tmp_path / "x", *SMALL, target=target_folder)
    found = summary(*some, "--teacher", "own:good")
    assert found["teacher"]["kind"] == "own:good"
    assert found["teacher"]["accuracy"] == 1.0
    everything = summary(*some, "--teacher", "own:good", "--exhaustive")
    assert 0 < found["looked_at"] < everything["looked_at"] == 1500
    voted = summary(*some, "--teacher", "own:good,linear")
    assert voted["teacher"]["kind"] == "own:good+linear"


def test_a_table_of_the_users(glyphs: Index, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(1500, 10)).astype(np.float32)
    np.save(tmp_path / "t.npy", logits)
    names = [str(digit) for digit in range(10)]
    plada.write_logits(glyphs, logits, classes=names, out=tmp_path / "t.parquet", embedded=True)
    for place in ("t.npy", "t.parquet"):
        some = (*ROOM, "--teacher", f"table:{tmp_path / place}")
        found = summary(*selecting(glyphs.home, tmp_path / place[2:], *some, target=DIGITS))
        assert found["teacher"]["kind"] == f"table:{place}"
        assert found["teacher"]["accuracy"] is None
    assert (tmp_path / "npy").read_bytes() == (tmp_path / "parquet").read_bytes()


def test_names_alone_through_a_text_tower(tmp_path: Path) -> None:
    """A CLIP of random weights: its labels mean nothing, the way to them is what is tested."""
    from tests.encoders.test_openclip import CONFIG, make_folder

    home, clip = tmp_path / "clip-home", make_folder(tmp_path / "clip", CONFIG)
    plada.index("glyphs:count=200", name="glyphs", encoder=f"open_clip:local-dir:{clip}", home=home)
    found = summary(
        "select", "--target", "classes:cat,dog", "--teacher", "zeroshot", "--home", home, "-o", tmp_path / "x",
        "--budget", "300", "--force",
    )  # fmt: skip
    assert found["teacher"]["kind"] == "zeroshot"
    assert found["rule"] == "spread"
    assert found["classes"] == 2


@pytest.mark.parametrize(
    ("teacher", "status", "kind", "said"),
    [
        ("own:nans", 5, "DataError", "not finite"),
        ("own:narrow", 5, "DataError", "9), expected ("),
        ("own:same", 5, "DataError", "--force"),
        ("own:nothing", 2, "RequestError", "no function 'nothing'"),
        ("no_such_module:f", 2, "RequestError", "cannot be imported"),
        ("table:none.npy", 2, "RequestError", "no such table"),
        ("table:nan.npy", 5, "DataError", "not finite"),
        ("table:short.npy", 5, "DataError", "expected (1500, 10)"),
        ("table:wide.npy", 5, "DataError", "expected (1, 10)"),
        ("table:foreign.parquet", 4, "ReferenceMismatch", "for other images"),
        ("zeroshot", 2, "RequestError", "reads no text"),
        ("linear,linear", 2, "RequestError", "different names"),
        ("finetune:resnet_18", 2, "UnknownName", "did you mean 'resnet18'"),
    ],
)
def test_bad_teachers(
    glyphs: Index, tmp_path: Path, own: None, teacher: str, status: int, kind: str, said: str
) -> None:
    good = np.random.default_rng(0).normal(size=(1500, 10)).astype(np.float32)
    np.save("nan.npy", np.where(good > 1, np.nan, good))
    np.save("short.npy", good[:10])
    np.save("wide.npy", np.zeros((1500, 11), np.float32))
    path = plada.write_logits(glyphs, good, classes=[str(digit) for digit in range(10)], out="foreign.parquet")
    pq.write_table(pq.read_table(path).replace_schema_metadata({"plada.content_id": "ff" * 16}), path)
    target = DIGITS if teacher.startswith("table:") else "digits"
    message = refused(status, kind, *selecting(glyphs.home, tmp_path / "x", *ROOM, "--teacher", teacher, target=target))
    assert said in message
    assert not (tmp_path / "x").exists()


def test_a_class_without_pseudo_label_is_said(glyph_home: Path, tmp_path: Path) -> None:
    logits = np.zeros((1500, 10), np.float32)
    logits[np.arange(1500), np.arange(1500) % 9] = 5
    np.save(tmp_path / "t.npy", logits)
    some = selecting(glyph_home, tmp_path / "x", *ROOM, "--teacher", f"table:{tmp_path / 't.npy'}", target=DIGITS)
    assert summary(*some)["empty_classes"] == ["9"]
    assert "calls no image of the reference 9: students cannot learn it; their quota went to" in call(*some).stderr


def test_broken_test_images_are_left_out_of_the_teachers_accuracy(
    glyph_home: Path, target_folder: Path, tmp_path: Path, own: None
) -> None:
    (target_folder / "test" / "dim" / "0.png").write_bytes(b"broken")
    (target_folder / "train" / "dim" / "1.png").write_bytes(b"broken")
    some = selecting(glyph_home, tmp_path / "x", *SMALL, target=target_folder)
    for teacher in ("linear", "own:good", "finetune:small_cnn"):
        found = summary(*some, "--teacher", teacher)
        assert found["left_out"] == 1
        assert found["teacher"]["accuracy"] is not None


def test_pictures_table_and_sheet(glyph_home: Path, target_folder: Path, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("sheet.png", "percentiles.png", "histogram.png", "table.parquet")}
    options = [part for name, path in places.items() for part in (f"--{name.partition('.')[0]}", path)]
    found = summary(*selecting(glyph_home, tmp_path / "x", *SMALL, *options, target=target_folder))
    for name in ("sheet.png", "percentiles.png", "histogram.png"):
        with Image.open(places[name]) as image:
            assert len(set(np.asarray(image.convert("L")).ravel().tolist())) > 20
    table = pq.read_table(places["table.parquet"])
    assert table.column_names == ["position", "key", "label", "score", "class_rank"]
    assert table.num_rows == found["images"]
    assert (
        sorted(table["position"].to_pylist()) == plada.read_payload(tmp_path / "x", home=glyph_home).positions.tolist()
    )


def test_seeds_repeat(glyph_home: Path, target_folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        some = ("--budget", "110", "--rule", "balanced-random", "--seed", seed)
        summary(*selecting(glyph_home, tmp_path / name, *some, target=target_folder))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
