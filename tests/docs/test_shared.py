"""The same commands on real photographs, tars, targets and weights, in small; skipped where there are none."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.sources.reference import Reference
from plada.sources.registry import open_source


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of each of 200 synsets, as tars and as a folder; the targets; the weights."""
    from tests.conftest import SHARED

    if not (SHARED / "unpack.py").exists():
        pytest.skip("no ../shared/data beside this checkout")
    out = tmp_path_factory.mktemp("shared")
    command = [
        sys.executable,
        str(SHARED / "unpack.py"),
        str(out),
        "--as",
        "tars",
        "--as",
        "folder",
        "--limit-per-class",
        "4",
    ]
    subprocess.run(command, check=True)
    return out


def test_tars_and_folder_are_one_reference(laid_out: Path) -> None:
    tars, folder = (plada.open_images(laid_out / f"reference-{form}") for form in ("tars", "folder"))
    assert isinstance(tars, Reference)
    assert len(tars) == 800
    assert tars.manifest.keys[0].as_py().startswith("n01443537/n01443537_")
    assert tars.manifest.key_id == folder.manifest.key_id
    assert tars.manifest.content_id == folder.manifest.content_id


def test_real_photographs_all_the_way(laid_out: Path, tmp_path: Path) -> None:
    weights = laid_out / "weights" / "mobilenetv2_100.safetensors"
    built = plada.index(laid_out / "reference-tars", name="tiny", encoder=plada.EncoderSpec(name="timm:mobilenetv2_100", weights=weights, model_args={"pad_type": "same"}, image_size=96))  # fmt: skip
    assert (built.images, built.unreadable, built.dimension) == (800, 0, 1280)
    index = plada.open_index("tiny")
    # Near neighbours of a photograph are of its own synset far more often than 1 in 200.
    queries = np.concatenate([vectors for _, vectors in index.scan()])[::8].astype(np.float32)
    hits = index.search(queries, k=2)
    own = np.mean([row[0].key.split("/")[0] == row[1].key.split("/")[0] for row in hits])
    assert own > 0.15
    selection = plada.select(index, target=laid_out / "targets" / "caltech20", budget=600, out=tmp_path / "c.plada")
    assert selection.report.teacher.accuracy is not None
    assert selection.report.teacher.accuracy > 0.85
    assert selection.report.bytes <= 600
    assert (selection.report.tried[0].validation_accuracy or 0) > 0.5
    student = plada.NetworkSpec(name="mobilenetv2_100", weights=weights, model_args={"pad_type": "same"}, image_size=64)
    # The client has the folder, not the tars: the same reference, and the payload fits.
    made = plada.train(
        tmp_path / "c.plada", reference=laid_out / "reference-folder", student=student, recipe={"epochs": 4},
        target=laid_out / "targets" / "caltech20",
    )  # fmt: skip
    assert made.same_content
    assert made.accuracy is not None
    assert made.accuracy > 0.3  # chance is 0.05


def test_positions_agree_between_forms(laid_out: Path, home: Path) -> None:
    tars, folder = (open_source(laid_out / f"reference-{form}", home) for form in ("tars", "folder"))
    assert all(tars.read(p) == folder.read(p) for p in range(0, 800, 37))
