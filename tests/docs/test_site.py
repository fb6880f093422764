"""The documentation site: it is built without a warning, no page is left out, and the notebooks print what they show."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import plada
from tests.docs.documents import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
PICTURE = 300_000  # bytes of a notebook's file, at most
EXTRA = "install the extra `docs` (pip install '.[docs]')"


@cache
def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def need(*names: str) -> None:
    for name in names:
        pytest.importorskip(name, reason=f"{name} is not installed: {EXTRA}")


def build(config: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    """The site, built strictly: a warning is an error (with --quiet none would be heard). Nothing is fetched, so a proxy that is not there does not matter."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", config, "--site-dir", out],
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_the_site_is_built_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    need("mkdocs", "material", "mkdocstrings", "nbconvert")
    site = tmp_path / "site"
    done = build(ROOT / "mkdocs.yml", site)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    # Every page of docs/, README as the first one, and every public name.
    for source in (ROOT / "docs").rglob("*.md"):
        assert site / source.relative_to(ROOT / "docs").with_suffix("") / "index.html" in pages
    assert "The characters chosen for each digit" in pages[site / "index.html"] or "<img" in pages[site / "index.html"]
    interface = "".join(text for path, text in pages.items() if path.parent.parent.name == "api")
    assert [name for name in plada.__all__ if f'id="plada.{name}"' not in interface] == []
    # A page that is read without a network is whole: no font, style or script from elsewhere.
    loaded = re.compile(r'<(?:script|img|link)\b[^>]*?(?:src|href)="?(?:https?:)?//[^">\s]+')
    assert {path: loaded.findall(text) for path, text in pages.items() if loaded.search(text)} == {}
    for name in ("server", "client"):
        notebook = pages[site / "notebooks" / name / "index.html"]
        assert re.search(rf'<img[^>]+src="[^"]*{name}_files/', notebook)
        assert list((site / "notebooks" / f"{name}_files").glob("*.png"))


DANGLING = {
    "a page": "[gone](gone.md)",
    "a heading": "[gone](quickstart.md#gone)",
    "a file of the root": "[gone](../GONE.md)",
}


@pytest.mark.parametrize("what", DANGLING)
def test_a_link_to_nothing_stops_the_build(what: str, tmp_path: Path) -> None:
    need("mkdocs", "material")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Start\n\n{DANGLING[what]}\n")
    (docs / "quickstart.md").write_text("# Quick start\n\n[back](index.md)\n")
    rules = re.search(r"^validation:\n(?: .*\n)+", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert rules is not None
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: a site\nstrict: true\nexclude_docs: '*.py'\n{rules[0]}")
    done = build(config, tmp_path / "site")
    assert done.returncode != 0
    assert "gone" in (done.stdout + done.stderr).lower()


def test_public_names_stand_once_in_the_pages_of_the_interface() -> None:
    named = re.findall(
        r"^::: plada\.(\w+)$", "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md")), re.M
    )
    missing, wrong = set(plada.__all__) - set(named), set(named) - set(plada.__all__)
    assert not missing, f"write '::: plada.NAME' into a page of docs/api for {sorted(missing)}"
    assert not wrong, f"docs/api has names that plada has not: {sorted(wrong)}"
    assert len(named) == len(set(named))


@pytest.mark.parametrize(
    ("here", "link", "within"),
    [
        ("README.md", "docs/quickstart.md", "quickstart.md"),
        ("README.md", "docs/pictures/choosing.png", "pictures/choosing.png"),
        ("README.md", "decoders", "decoders/README.md"),
        ("docs/quickstart.md", "../README.md", "index.md"),
        ("docs/installing.md", "../container/Containerfile", "container/Containerfile"),
        ("docs/api/server.md", "../commands.md", "../commands.md"),
        ("decoders/README.md", "../docs/payload-format.md", "../payload-format.md"),
        ("docs/limits.md", "log.md", "log.md"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(here: str, link: str, within: str) -> None:
    need("mkdocs")
    assert module("site_hooks").link_within(here, link) == within


def test_files_that_pages_link_to_are_part_of_the_site() -> None:
    need("mkdocs")
    linked = module("site_hooks").linked_files()
    assert {"LICENSE", "container/Containerfile", "decoders/plada_decode.c"} <= set(linked)
    assert not any(path.endswith(".md") or path.startswith("docs/") for path in linked)


def outputs(notebook: Any) -> list[str]:
    """What the cells of a notebook show: texts, and for pictures that there is one."""
    shown = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", output
            data = output.get("data", {"text/plain": output.get("text", "")})
            text = data.get("text/plain", "")
            shown.append("a picture" if "image/png" in data else text if isinstance(text, str) else "".join(text))
    return shown


def committed(name: str) -> Any:
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["server", "client"])
def test_a_notebook_is_committed_with_what_it_prints(name: str) -> None:
    notebook = committed(name)
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < PICTURE
    assert "a picture" in outputs(notebook)
    # Nothing of the machine that it ran on, and no times.
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert not re.search(r"/tmp/|/home/|seconds|images/s", "".join(outputs(notebook)))


def test_the_notebooks_print_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("nbclient", "nbformat", "ipykernel", "torch", "lancedb")
    monkeypatch.setenv("PLADA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runner = module("run_notebooks")
    for name in runner.NAMES:
        again, before = outputs(runner.run_notebook(NOTEBOOKS / f"{name}.ipynb", tmp_path)), outputs(committed(name))
        # Drawn characters depend on the version of FreeType: figures may differ a little, words may not.
        assert [words(text) for text in again] == [words(text) for text in before]
        assert numbers(again) == pytest.approx(numbers(before), rel=0.1, abs=5)


_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def words(text: str) -> str:
    return _NUMBER.sub("N", text)


def numbers(texts: list[str]) -> list[float]:
    return [float(each) for each in _NUMBER.findall("\n".join(texts))]
