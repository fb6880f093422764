"""docs/installing.md and the container's recipe name extras, commands, options and files that exist."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from plada.cli import app

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
PAGE = (ROOT / "docs" / "installing.md").read_text()
RECIPE = (ROOT / "container" / "Containerfile").read_text()


@pytest.mark.parametrize("text", [PAGE, RECIPE, (ROOT / "README.md").read_text()], ids=["page", "recipe", "readme"])
def test_extras_that_are_named_exist(text: str) -> None:
    named = {extra for found in re.findall(r"(?:plada|\.)\[([a-z,]+)\]", text) for extra in found.split(",")}
    assert named
    assert named <= set(EXTRAS)


def test_every_extra_for_users_is_explained() -> None:
    table = set(re.findall(r"^\|.*\| `([a-z]+)` \|", PAGE, re.MULTILINE))
    assert table == set(EXTRAS) - {"dev"}


def calls(text: str) -> Iterator[list[str]]:
    """Every line that calls plada, also behind docker or uvx, and also in running text."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`(plada [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + spans:
        words = shlex.split(line.partition("  #")[0])
        at = [number for number, word in enumerate(words) if Path(word).name == "plada"]
        if at and words[0] not in ("pipx",) and not (words[0] == "docker" and words[1] == "build"):
            yield words[at[-1] + 1 :]


def commands() -> dict[str, set[str]]:
    """Options of each command, by the command line itself."""
    group = typer.main.get_command(app)
    found = {"": {flag for each in group.params for flag in each.opts} | {"--help"}}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        found[name] = {flag for each in command.params for flag in each.opts} | {"--help"}
    return found


@pytest.mark.parametrize("text", [PAGE, RECIPE], ids=["page", "recipe"])
def test_commands_and_options_that_are_named_exist(text: str) -> None:
    known, seen = commands(), 0
    for words in calls(text):
        words = words[: words.index("|")] if "|" in words else words
        name = words[0] if words and not words[0].startswith("-") else ""
        assert name in known, words
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known[name], words
        seen += 1
    assert seen or text is RECIPE


def test_the_recipe_copies_files_that_are_there_and_that_its_ignore_file_lets_through() -> None:
    ignored = (ROOT / "container" / "Containerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (.*)$", RECIPE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored
    assert ignored[0] == "*"


def test_the_recipe_asks_for_one_faiss_and_a_python_that_will_do() -> None:
    (wanted,) = re.findall(r"'\.\[([a-z,]+)\]'", RECIPE)
    assert ("gpu" in wanted.split(",")) != ("cpu" in wanted.split(","))
    (minor,) = re.findall(r"^FROM python:3\.(\d+)-slim$", RECIPE, re.MULTILINE)
    assert int(minor) >= 11
    assert re.search(r'^ENTRYPOINT \["plada"\]$', RECIPE, re.MULTILINE)
    (started,) = re.findall(r'^CMD \["([a-z]+)"\]$', RECIPE, re.MULTILINE)
    assert started in commands()
