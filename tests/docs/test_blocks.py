"""Every block of code in README and docs/ is run, document by document, as a reader would: from top to bottom, in one folder.

The places that documents speak of (/data/imagenet21k, /data/food-101, food101.plada, ...) are made first, small, of drawn
characters. What cannot be run here says so in the document (`<!-- not run: reason -->`); tests/docs/test_documents.py looks at it.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.sources.decode import decode
from plada.sources.formats.builtin import open_digits
from plada.sources.formats.glyphs import render
from tests.docs import documents
from tests.docs.documents import HISTORY, PYTHON, ROOT, SHELL, Block

IMAGES = 400
CLASSES = {"food-101": {"pizza": 0, "ramen": 1, "sushi": 7}}

# These begin with nothing: what they need they make.
FROM_NOTHING = {"quickstart.md", "case.md"}

KEY_ID = "6b0fd8dfc43240d4"  # that of the shared photographs, as documents show it


@dataclass(frozen=True, slots=True)
class World:
    """What stands in for the places of the documents: `/data`, the home, and files by their names."""

    data: Path
    home: Path
    files: Path
    key_id: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    data, home, files = root / "data", root / "home", root / "files"
    files.mkdir()
    reference = data / "imagenet21k"
    for number in range(IMAGES):
        synset = f"n{1440000 + number // 20:08d}"
        _save(render(number, seed=0), reference / synset / f"{synset}_{number}.JPEG")
    digits = open_digits()
    assert digits.test is not None
    for name, classes in CLASSES.items():
        for part, split, count in (("train", digits.train, 40), ("test", digits.test, 15)):
            for label, digit in classes.items():
                for position in split.positions[split.labels == digit][:count]:
                    image = decode(split.collection.read(int(position))).resize((32, 32), Image.Resampling.BICUBIC)
                    _save(image, data / name / part / label / f"{position}.png")
    built = plada.index(reference, name="imagenet21k", encoder="gradients", pack=True, home=home)
    _payloads(data, home, files)
    _pictures(data, files)
    manifest = next((home / "references").glob("imagenet21k-*/manifest.parquet"))
    shutil.copy(manifest, files / "manifest.parquet")
    return World(data, home, files, built.key_id)


def _payloads(data: Path, home: Path, files: Path) -> None:
    """food101.plada with its table and a model, the payloads of two days, lists of corrections."""
    target = data / "food-101"
    made, *others = (
        plada.select("imagenet21k", target=target, budget=budget, rule="herd", home=home, out=files / f"{name}.plada")
        for name, budget in (("food101", 200), ("monday", 120), ("tuesday", 150))
    )
    for name, selection in zip(("food101", "monday", "tuesday"), (made, *others), strict=True):
        selection.write_table(files / f"{name}.parquet")
    plada.train(made.payload, student="linear", out=files / "food101-resnet18.safetensors", home=home)
    keys = plada.open_images(data / "imagenet21k", home=home).collection.keys
    first, second = (str(keys[int(made.payload.positions[at])]) for at in (0, 1))
    for name in ("exclude.txt", "not-these.txt"):
        (files / name).write_text(first + "\n")
    for name in ("relabel.csv", "corrected.csv"):
        (files / name).write_text(f"key,label\n{second},pizza\n")


def _pictures(data: Path, files: Path) -> None:
    """Pictures to search with and to look at, and weights that came as a pickle."""
    import torch

    found = sorted((data / "food-101" / "test").glob("*/*.png"))
    for name in ("dog.jpg", "photo.jpg", "holiday/beach.jpg"):
        _save(Image.open(found[len(name)]).convert("L"), files / name)
    torch.save({"state_dict": {"layer.weight": torch.zeros(2, 3)}}, files / "model.bin")


def _save(image: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path)


def runnable(path: Path, *others: str) -> list[Block]:
    """The blocks of a document that are run, and those of other languages that are asked for."""
    if path.name in HISTORY:
        return []
    wanted = {SHELL, PYTHON, *others}
    return [block for block in documents.blocks(path) if block.mark is None and block.language in wanted]


NUMBER = re.compile(r"(\d+(?:\.\d+)?)(%?)")


def different(shown: str, printed: str) -> list[str]:
    """The lines of an output in a document that a command does not print: the words must be the same. Another machine
    rounds otherwise, so percentages may differ by three points, and numbers by a tenth, or three. A line
    that ends with ... is the beginning of one."""
    candidates = [_words(line) for line in printed.splitlines()]
    return [line for line in shown.splitlines() if not any(_alike(_words(line), each) for each in candidates)]


def _words(line: str) -> str:
    """A line without the frame of its table."""
    return " ".join(re.sub("[\u2500-\u257f]", " ", line).split())


def _alike(shown: str, printed: str) -> bool:
    if shown.endswith(" ..."):
        shown = shown.removesuffix(" ...")
        printed = " ".join(printed.split()[: len(shown.split())])
    if NUMBER.sub("0", shown) != NUMBER.sub("0", printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(
        abs(float(one) - float(other)) <= (3 if percent else max(3, float(one) / 10))
        for (one, percent), (other, _) in pairs
    )


def test_an_output_that_is_not_printed_is_found() -> None:
    printed = "payload    a.plada: 299 of 300 bytes\nteacher    test 91.0%\n"
    assert different("payload  a.plada: 280 of 300 bytes\nteacher test 92.5%\n", printed) == []
    assert different("teacher ...\n", "\u2502 teacher \u2502 linear \u2502\n") == []
    assert different("teacher test 86.0%\n", printed) == ["teacher test 86.0%"]
    assert different("payload  b.plada: 299 of 300 bytes\n", printed) == ["payload  b.plada: 299 of 300 bytes"]


PAGES = [path for path in documents.documents() if runnable(path)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_code_of_a_document_runs(
    path: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {}
    folder = tmp_path / "reader"
    if path.name in FROM_NOTHING:
        folder.mkdir()
    else:
        world: World = request.getfixturevalue("world")
        shutil.copytree(world.files, folder)
        shutil.copytree(world.home, tmp_path / "home")
        names = {"/data/": f"{world.data}/", KEY_ID: world.key_id}
    monkeypatch.chdir(folder)
    _shim(tmp_path / "bin", monkeypatch)
    printed = ""
    for block in runnable(path, *(("text",) if path.name in FROM_NOTHING else ())):
        if block.language == "text":
            assert different(block.text, printed) == [], printed
            continue
        made = run(block, names)
        printed = made.get("printed", "")
        if path.name == "clients.md" and block.language == PYTHON:
            assert made["agreement"] > 0.5, "ten classes: chance is 0.1"


def _shim(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plada` and `python` for lines that are left to the shell: those of this checkout."""
    folder.mkdir()
    for name, words in (("plada", "-m plada "), ("python", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(block: Block, names: dict[str, str]) -> dict[str, Any]:
    """Run a block as it stands, but for the names that stand for other places here. Returns what Python code has set, or what was
    printed (`printed`)."""
    text = block.text
    for name, here in names.items():
        text = text.replace(name, here)
    if block.language == PYTHON:
        made: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, str(block), "exec"), made)
        return made
    printed = []
    for line in documents.lines_of_shell(text):
        status = re.search(r"# .*\bexit status (\d)", line)
        found, said = _run_line(line)
        assert found == int(status[1] if status else 0), f"{block}: {line}\nended with {found}:\n{said}"
        printed.append(said)
    return {"printed": "\n".join(printed)}


def _run_line(line: str) -> tuple[int, str]:
    """Exit status and output of a line: in this process if it is one plada command, else by the shell."""
    found = documents.commands(line)
    if len(found) == 1 and line.startswith("plada ") and not set("|<>;&$") & set(line.partition("#")[0]):
        done = CliRunner().invoke(app, found[0])
        failure = "" if done.exception is None or isinstance(done.exception, SystemExit) else repr(done.exception)
        return done.exit_code, done.output + failure
    run = subprocess.run(["bash", "-euo", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("```sh\nplada datasets digits\n```", False),
        ("```sh\nplada datasets gone\n```", True),
        ("```sh\nplada datasets gone  # exit status 2\n```", False),
        ("```sh\nplada datasets digits  # exit status 2\n```", True),
        ("```sh\nls | grep -q nothing-here\n```", True),
        ("```sh\nplada datasets --json | head -1 > listed.json\n```", False),
        ("```python\nimport plada\n\nassert plada.datasets('digits')\n```", False),
        ("```python\nimport plada\n\nplada.datasets('gone')\n```", True),
    ],
)
def test_a_block_that_fails_is_found(
    text: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    _shim(tmp_path / "bin", monkeypatch)
    (block,) = documents.blocks(tmp_path / "page.md", text)
    if fails:
        with pytest.raises((AssertionError, plada.PladaError)):
            run(block, {})
    else:
        run(block, {})
