"""Pages that are written from the program are those that it would write now, and links between documents lead somewhere."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from plada import errors

ROOT = Path(__file__).resolve().parents[1]


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "errors.md"])
def test_a_generated_page_is_not_stale(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generator().PAGES[name](), f"docs/{name} is stale: run python docs/generate.py"


def kinds() -> list[type[errors.PladaError]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PladaError)
    ]  # fmt: skip


def test_every_error_has_its_own_remedy_and_stands_in_the_page() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for kind in kinds():
        assert "remedy" in vars(kind), kind
        assert f"`{kind.__name__}`" in page
        assert f"{kind.__name__} " in (errors.__doc__ or ""), f"{kind.__name__} is not in the tree that errors.py shows"
    assert len({kind.remedy for kind in kinds()}) == len(kinds())


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{path.name} points at {link}"
