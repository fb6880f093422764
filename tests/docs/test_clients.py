"""docs/clients.md: its JAX example runs as it stands, and its tables name what there is. test_document_blocks.py runs the rest."""

import re
from pathlib import Path
from typing import Any

import pytest

from plada.networks.recipe import Recipe
from plada.trainer.export import EXPORTS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "clients.md"


def example(name: str) -> str:
    """The block of code that begins with `# NAME: complete`."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(f"# {name}: complete\n")]
    return str(found)


def run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example(name), f"docs/clients.md ({name})", "exec"), names)
    return names


def test_the_jax_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax", reason="jax is not installed")
    found = run("jax", tmp_path, monkeypatch)
    assert found["agreement"] > 0.8
    assert found["labels"].tolist() == plada_labels(tmp_path)


def plada_labels(folder: Path) -> list[int]:
    import plada

    return [int(label) for label in plada.read_payload(folder / "digits.plada").labels]


def test_forms_and_options_that_it_names() -> None:
    text = DOCUMENT.read_text()
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z]+)`", row)} == set(EXPORTS)
    known = set(Recipe.__dataclass_fields__)
    named = re.search(r"`epochs`.*?`image_size`", text, re.DOTALL)
    assert named is not None
    assert set(re.findall(r"`([a-z_]+)`", named.group())) <= known
