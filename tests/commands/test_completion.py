"""What shells offer after TAB: by the completers themselves, and in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import plada
from plada.commands.console import completion
from plada.common.cluster import ENGINES
from plada.encoders.known import KNOWN_ENCODERS
from plada.sources.catalogue.known import KNOWN
from tests.payload.payloads import made
from tests.test_architecture import HEAVY, loaded_by

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


def names(offers: list[tuple[str, str]]) -> list[str]:
    return [name for name, _ in offers]


def asked(home: Path, **params: Any) -> Any:
    return SimpleNamespace(params={"home": home, **params})


def test_collections_by_what_they_can_be() -> None:
    assert "digits" in names(completion.targets(""))
    assert "glyphs" not in names(completion.targets(""))
    assert names(completion.references("gly")) == ["glyphs"]
    assert names(completion.collections("")) == list(KNOWN)
    assert names(completion.targets("di")) == [
        name for name, known in KNOWN.items() if name.startswith("di") and known.role != "reference"
    ]
    assert names(completion.targets("no-such")) == []


def test_the_last_of_several_targets() -> None:
    assert names(completion.several_targets("digits,foo")) == ["digits,food101"]
    assert names(completion.several_targets("foo")) == ["food101"]


def test_indexes_of_the_home_that_is_named(glyph_home: Path, tmp_path: Path) -> None:
    assert names(completion.indexes(asked(glyph_home), "")) == ["glyphs"]
    assert names(completion.indexes(asked(glyph_home), "x")) == []
    assert names(completion.indexes(asked(tmp_path / "none"), "")) == []
    assert names(completion.sources(asked(glyph_home, check=True), "")) == ["glyphs"]
    assert "imagenet21k" in names(completion.sources(asked(glyph_home, check=False), ""))


def test_tasks_that_were_pulled(tmp_path: Path) -> None:
    payload = made()
    payload.save(tmp_path / "menu.plada")
    plada.publish(tmp_path / "shop", [tmp_path / "menu.plada"])
    plada.pull(tmp_path / "shop", "menu", home=tmp_path / "home")
    assert completion.payloads(asked(tmp_path / "home"), "m") == [("menu", "pulled from shop")]
    assert names(completion.payloads(asked(tmp_path / "home"), "x")) == []
    (next((tmp_path / "home").rglob("state.json"))).write_text("{}")
    assert names(completion.payloads(asked(tmp_path / "home"), "")) == []


def test_encoders_that_were_used(glyph_home: Path, tmp_path: Path) -> None:
    place = tmp_path / "home" / "indexes"
    for name, said in {
        "a": '{"encoder": {"name": "timm:x.y"}}',
        "b": "broken",
        "c": "[]",
        "d": '{"encoder": {}}',
    }.items():
        (place / name).mkdir(parents=True)
        (place / name / "index.json").write_text(said)
    (place / "unfinished").mkdir()
    assert names(completion.indexes(asked(tmp_path / "home"), "")) == ["a"]
    assert names(completion.encoders(asked(tmp_path / "home"), "")) == ["gradients", "timm:x.y", *KNOWN_ENCODERS]
    assert names(completion.encoders(asked(tmp_path / "home"), "ti")) == ["timm:x.y"]
    assert names(completion.indexes_and_encoders(asked(glyph_home), "g")) == ["glyphs", "gradients"]


def test_words_are_those_that_the_program_takes() -> None:
    from plada.encoders.encoder import PRECISIONS
    from plada.indexer.ann import KINDS
    from plada.selection.rules.registry import AUTO, RULES
    from plada.selection.soft import LABELS
    from plada.trainer.export import EXPORTS

    assert set(names(completion.export_forms(""))) == set(EXPORTS)
    assert set(names(completion.labels(""))) == set(LABELS)
    assert set(names(completion.precisions(""))) == set(PRECISIONS)
    assert set(names(completion.engines(""))) == set(ENGINES)
    assert set(names(completion.ann_kinds(""))) == {"auto", "none", *KINDS}
    assert names(completion.rules("")) == [AUTO, *RULES]
    assert all(about for _, about in completion.rules(""))


def complete(line: str, **options: str) -> list[str]:
    """What typer's own script for bash would be given."""
    words = line.split(" ")
    environment = {
        **os.environ, **options, "_PLADA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "plada"], capture_output=True, text=True, env=environment, check=True, timeout=600
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_command_completes_commands_options_and_values(glyph_home: Path) -> None:
    assert complete("plada insp") == ["inspect"]
    assert complete("plada select --targ") == ["--target"]
    assert complete("plada select --target dig") == ["digits"]
    assert complete("plada select --rule paper") == ["paper", "paper-0.2"]
    assert complete("plada search x --index ", PLADA_HOME=str(glyph_home)) == ["glyphs"]
    assert complete(f"plada search x --home {glyph_home} --index ") == ["glyphs"]
    assert complete("plada export x --to t") == ["tfrecord"]
    assert complete("plada train x --target nothing-like-it") == []


def test_completing_loads_nothing_heavy(glyph_home: Path) -> None:
    code = (
        f"from types import SimpleNamespace\nfrom plada.commands.console import completion as c\nctx = SimpleNamespace(params={{'home': {str(glyph_home)!r}}})\n"
        "assert c.targets('') and c.references('') and c.collections('') and c.rules('') and c.encoders(ctx, '') and c.indexes(ctx, '')"
    )
    assert not loaded_by(code) & (HEAVY | {"pyarrow", "PIL"})


@bash
def test_completion_installs_itself_and_works_in_bash(tmp_path: Path) -> None:
    there = tmp_path / "bin"
    there.mkdir()
    (there / "plada").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m plada "$@"\n')
    (there / "plada").chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{there}:{os.environ['PATH']}"}

    def said(line: str) -> str:
        done = subprocess.run(
            ["bash", "--norc", "-c", line], capture_output=True, text=True, env=environment, timeout=6000
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "plada" in said("plada --install-completion bash || plada --install-completion; exit $?")
    (script,) = tmp_path.rglob("plada.sh")
    assert str(script) in (tmp_path / ".bashrc").read_text()
    asked = f"source '{script}'; COMP_WORDS=(plada datasets food); COMP_CWORD=2; "
    asked += "$(complete -p plada | sed 's/.* -F \\([^ ]*\\) .*/\\1/') plada; echo \"${COMPREPLY[@]}\""
    assert said(asked).split() == ["food101"]
