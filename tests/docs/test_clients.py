"""docs/clients.md: examples for other packages run as they stand, and its tables name what there is. test_blocks.py runs the rest."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import plada
from plada.common.packages import import_timm
from plada.networks.recipe import Recipe
from plada.sources.formats.glyphs import render
from plada.trainer.export import EXPORTS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "clients.md"


def example(name: str) -> str:
    """The block of code that begins with `# NAME: complete`."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(f"# {name}: complete\n")]
    return str(found)


def run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    text = example(name).replace("/data/imagenet21k", str(tmp_path / "imagenet21k"))
    exec(compile(text, f"docs/clients.md ({name})", "exec"), names)
    return names


@pytest.fixture
def client(tmp_path: Path) -> plada.Payload:
    """A client's copy of a small reference, and food101.plada for it."""
    for number in range(96):
        path = tmp_path / "imagenet21k" / f"n{number // 12:08d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(number, seed=0)).save(path)
    manifest = plada.open_images(tmp_path / "imagenet21k").manifest
    sent = plada.Payload(
        np.arange(0, 96, 2), np.arange(48) % 3, ("pizza", "ramen", "sushi"), 96, manifest.key_id, manifest.content_id
    )
    sent.save(tmp_path / "food101.plada")
    return sent


def test_the_timm_example(client: plada.Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_timm()  # timm imports a torchvision that does not fit the torch that is here
    found = run("timm", tmp_path, monkeypatch)
    assert found["dataset"].targets == client.labels.tolist()
    assert found["images"].shape == (32, 3, 64, 64)
    assert found["loss"].isfinite()


def test_the_lightning_example(client: plada.Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile(example("lightning"), "docs/clients.md (lightning)", "exec")
    pytest.importorskip("lightning", reason="lightning is not installed")
    assert run("lightning", tmp_path, monkeypatch)["trainer"].global_step == 4


def test_the_hugging_face_example(client: plada.Payload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert run("hugging face", tmp_path, monkeypatch)["dataset"]["label"][:] == client.labels.tolist()


def test_the_jax_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax", reason="jax is not installed")
    found = run("jax", tmp_path, monkeypatch)
    assert found["agreement"] > 0.8
    assert found["labels"].tolist() == plada_labels(tmp_path)


def plada_labels(folder: Path) -> list[int]:
    return [int(label) for label in plada.read_payload(folder / "digits.plada").labels]


def test_forms_and_options_that_it_names() -> None:
    text = DOCUMENT.read_text()
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z]+)`", row)} == set(EXPORTS)
    known = set(Recipe.__dataclass_fields__)
    named = re.search(r"`epochs`.*?`image_size`", text, re.DOTALL)
    assert named is not None
    assert set(re.findall(r"`([a-z_]+)`", named.group())) <= known
