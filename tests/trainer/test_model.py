"""A trained model as an object: pictures of every kind, any number of them, files of predictions, and what cannot be predicted."""

import csv
import functools
import http.server
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import DataError, RequestError
from plada.networks.network import NetworkSpec, build_network, read_safetensors
from plada.trainer.model_file import read_card, save_model
from tests.conftest import picture

SMALL = NetworkSpec(name="test_resnet", image_size=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network from nothing: what it says is as good as any."""
    import torch

    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    torch.manual_seed(0)
    network = build_network(SMALL, classes=3)
    card = {
        "network": SMALL.name, "classes": ["a", "b", "c"], "recipe": {}, "model_args": {},
        **{name: getattr(network, name) for name in ("size", "crop", "interpolation", "mean", "std")},
    }  # fmt: skip
    save_model(path, network.module.state_dict(), card)
    return path


@pytest.fixture
def loaded(model: Path) -> plada.Model:
    return plada.load_model(model)


@pytest.fixture
def files(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.*"))


def test_a_picture_is_the_same_in_every_form(loaded: plada.Model, files: list[Path]) -> None:
    import torch

    path = files[0]
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    pixels = np.asarray(image)
    planes = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    expected = loaded.predict(path)
    assert expected.label == expected.best[0][0]
    assert [len(expected.best), expected.image] == [3, str(path)]
    with Image.open(path) as unread:
        for form in (str(path), path.as_uri(), image, unread, pixels, planes):
            found = loaded.predict(form)
            assert dict(found.best) == pytest.approx(dict(expected.best))
    several = (
        [image, image], np.stack([pixels, pixels]), torch.stack([planes, planes]), [path, pixels], ((path,), [image]),
        (each for each in [path, path]),
    )  # fmt: skip
    for forms in several:
        found = loaded.predict(forms)
        assert [each.label for each in found] == [expected.label] * 2
        assert found[1].best[0][1] == pytest.approx(expected.best[0][1], abs=1e-5)
    shares = loaded.probabilities([path, image])
    assert shares.shape == (2, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert loaded.classes[int(shares[0].argmax())] == expected.label
    assert loaded.predict([image], top=1)[0].image == "image 0"


def test_pictures_of_other_modes_are_those_of_their_files(loaded: plada.Model, tmp_path: Path) -> None:
    grey = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    clear = Image.fromarray(np.dstack([grey, grey.T, grey, 255 - grey]))
    for name, image in (
        ("grey", Image.fromarray(grey)),
        ("clear", clear),
        ("palette", clear.convert("RGB").quantize(8)),
    ):
        image.save(tmp_path / f"{name}.png")
        assert loaded.probabilities(image) == pytest.approx(loaded.probabilities(tmp_path / f"{name}.png")), name
    np.testing.assert_array_equal(loaded.probabilities(grey), loaded.probabilities(Image.fromarray(grey)))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((8, 8, 3), np.float32), r"float32 \[8, 8, 3\]; expected uint8"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \[8, 8, 4\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"\[0, 8, 8, 3\]"),
        (np.zeros(8, np.uint8), r"uint8 \[8\]"),
        ([], "no picture was named"),
        (3, "a int is no picture"),
        ([None], "a NoneType is no picture"),
        ("gone.png", "gone.png: no such picture"),
        ("gone-*.png", r"gone-\*.png: no picture was named"),
        ("memory://gone", "nothing can be reached"),
    ],
)
def test_what_is_no_picture_is_refused(loaded: plada.Model, images: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        loaded.predict(images)


def test_folders_wildcards_and_urls(loaded: plada.Model, pictures: Path, files: list[Path], tmp_path: Path) -> None:
    (pictures / "n0" / "notes.txt").write_text("no picture")
    assert [each.image for each in loaded.predict(pictures)] == [str(path) for path in files]
    jpegs = loaded.predict(str(pictures / "**" / "*.jpg"))
    assert [each.image for each in jpegs] == [str(path) for path in files if path.suffix == ".jpg"]
    assert len(loaded.predict(f"{pictures}/n[01]")) == 16
    literal = pictures / "n0" / "[1].png"
    picture(5).save(literal)
    assert loaded.predict(literal).image == str(literal)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in files[:3]:
            archive.write(path, f"in/{path.name}")
        archive.writestr("in/a.png", b"no picture")
    found = loaded.predict(f"zip://in::{tmp_path / 'p.zip'}")
    assert [bool(each.problem) for each in found] == [True, False, False, False]
    assert [each.label for each in found[1:]] == [each.label for each in loaded.predict(files[:3])]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served(pictures: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(pictures)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_url_is_fetched(loaded: plada.Model, served: str, files: list[Path]) -> None:
    name = "/".join(files[0].parts[-2:])
    assert loaded.predict(f"{served}/{name}").label == loaded.predict(files[0]).label
    found = loaded.predict([f"{served}/gone.png", files[0]])
    assert found[0].problem.startswith("cannot be fetched (HTTP Error 404")
    assert not found[1].problem


def test_a_folder_without_pictures(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "empty"), "--model", str(model)])
    assert done.exit_code == 2
    assert (
        f"{tmp_path / 'empty'}: no picture was named, or the folder has none. Expected files ending in .bmp"
        in done.stderr
    )
    out = tmp_path / "p.csv"
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "empty"), "--model", str(model), "-o", str(out)])
    assert done.exit_code == 2
    assert not out.exists()


def test_a_stream_holds_a_batch_at_a_time(loaded: plada.Model, files: list[Path]) -> None:
    asked = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal asked
        while True:
            asked += 1
            yield picture(asked % 5)

    found = loaded.stream(endless(), top=1)
    for _ in range(70):
        next(found)
    assert 70 <= asked <= 128
    with pytest.raises(RequestError, match="top = 0"):
        loaded.stream(files, top=0)


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_of_predictions(
    ending: str, model: Path, loaded: plada.Model, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plada.api.predict._ROWS", 10)  # several row groups
    monkeypatch.chdir(tmp_path)
    Path("=1+1.png").write_bytes(files[0].read_bytes())
    Path("broken.png").write_bytes(b"broken")
    out = tmp_path / f"p.{ending}"
    words = ["=1+1.png", "broken.png", *map(str, files)]
    done = CliRunner().invoke(app, ["predict", *words, "--model", str(model), "-o", str(out), "--top", "9", "--json"])
    assert done.exit_code == 5
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["images"], summary["unreadable"], summary["out"]) == (26, 1, str(out))
    assert summary["example"].startswith("broken.png (not an image")
    rows = rows_of(out)
    best = ["class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert [*rows[0]] == ["image", *best, "problem"]
    assert rows[0]["image"] == ("'=1+1.png" if ending == "csv" else "=1+1.png")
    assert rows[1]["problem"].startswith("not an image")
    assert not rows[1]["class"]
    expected = loaded.predict(files)
    assert [row["image"] for row in rows[2:]] == [each.image for each in expected]
    assert [row["class"] for row in rows[2:]] == [each.label for each in expected]
    assert [float(row["probability"]) for row in rows[2:]] == pytest.approx([e.best[0][1] for e in expected], abs=1e-5)
    assert not list(tmp_path.glob("*.part"))


def test_outputs_that_cannot_be(model: Path, loaded: plada.Model, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"p\.txt: expected a file ending in \.csv or \.parquet"):
        plada.predict(files, model=model, out=tmp_path / "p.txt")
    with pytest.raises(RequestError, match="is a folder"):
        (tmp_path / "p.csv").mkdir()
        plada.predict(files, model=loaded, out=tmp_path / "p.csv")


def test_unreadable_pictures(loaded: plada.Model, files: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(next(path for path in files if path.suffix == ".jpg").read_bytes()[:-200])
    with Image.open(cut) as opened:
        found = loaded.predict([cut, opened, files[0]])
    assert [bool(each.problem) for each in found] == [True, True, False]
    assert found[0].label is None
    assert loaded.predict(cut).best == ()
    with pytest.raises(DataError, match=r"cut\.jpg: cannot be read"):
        loaded.probabilities([files[0], cut])


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c", "d"]])
def test_a_model_of_other_classes(
    classes: list[str], model: Path, files: list[Path], tmp_path: Path, target_folder: Path
) -> None:
    card, state = read_card(model), read_safetensors(model)
    save_model(tmp_path / "m.safetensors", state, {**card, "classes": classes})
    with pytest.raises(DataError, match="its tensors are not those of test_resnet"):
        plada.load_model(tmp_path / "m.safetensors")
    linear = {name: np.zeros(shape, np.float32) for name, shape in (("mean", 4), ("weight", (4, 3)), ("bias", 3))}
    import torch

    save_model(
        tmp_path / "l.safetensors", {name: torch.from_numpy(array) for name, array in linear.items()},
        {"network": "linear", "classes": classes, "encoder": {}},
    )  # fmt: skip
    with pytest.raises(DataError, match=f"its head has 3 outputs and its card names {len(classes)} classes"):
        plada.predict(files, model=tmp_path / "l.safetensors")
    with pytest.raises(DataError, match=r"its 2 classes .* are not the model's 3"):
        plada.evaluate(model, target=target_folder)


def test_train_returns_a_model(pictures: Path, files: list[Path], tmp_path: Path) -> None:
    manifest = plada.open_images(pictures).manifest
    sent = plada.Payload(np.arange(24), np.arange(24) % 2, ("a", "b"), 24, manifest.key_id, manifest.content_id)
    trained = plada.train(sent, reference=pictures, student=SMALL, recipe={"epochs": 1, "batch_size": 8})
    assert trained.path is None
    assert trained.to_dict()["model"] is None
    json.dumps(trained.to_dict())
    before = trained.model.probabilities(files)
    trained.model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(plada.load_model(tmp_path / "m.safetensors").probabilities(files), before)
    kept = plada.train(sent, reference=pictures, student="linear", encoder="gradients", out=tmp_path / "l.safetensors")
    assert (kept.path, kept.to_dict()["model"]) == (str(tmp_path / "l.safetensors"),) * 2
    assert kept.model.predict(files[0], top=1).label in ("a", "b")


def test_results_fit_on_a_screen(pictures: Path, glyph_home: Path, target_folder: Path) -> None:
    selection = plada.select("glyphs", target=target_folder, budget=200, rule="herd", home=glyph_home)
    payload = selection.payload
    trained = plada.train(payload, student="linear", target=target_folder, home=glyph_home)
    shown = (
        plada.open_images(pictures), payload, payload.dataset(home=glyph_home), plada.open_index("glyphs", home=glyph_home),
        selection, selection.report, trained, trained.model, trained.evaluation,
    )  # fmt: skip
    for each in shown:
        assert len(repr(each)) < 400, type(each)
        assert len(str(each)) < 400, type(each)
    assert f"{trained.accuracy:.1%} right on shades" in repr(trained)
    assert isinstance(payload, plada.Payload)
