"""Each command can say that it is starting before it imports anything heavy."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.commands.console import output as shown

# Nothing heavy is loaded: the first attempt ends the command, and says whether the first sign was under way.
SCRIPT = """
import sys
from typer.testing import CliRunner
from plada.cli import app
from plada.commands.console import output

HEAVY = {"torch", "faiss", "open_clip", "lancedb", "lance", "sklearn", "timm"}

class Heavy(BaseException):
    pass

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name in HEAVY:
            raise Heavy("after" if output._signs else "before")

output._STARTING_SECONDS = 3600
sys.meta_path.insert(0, Guard())
for line in sys.stdin.read().splitlines():
    try:
        done = CliRunner().invoke(app, line.split("|"))
        print("nothing heavy", done.output.strip().replace(chr(10), " "))
    except Heavy as heavy:
        print(heavy)
    assert not HEAVY & set(sys.modules)
"""


def test_commands_can_speak_before_heavy_imports(glyph_home: Path, tmp_path: Path) -> None:
    model, digits_file = tmp_path / "model.safetensors", tmp_path / "digits.plada"
    manifest = plada.open_images("glyphs:count=1500", home=glyph_home).manifest
    some = np.arange(60)  # labels by chance: choosing images would take longer
    identity = (len(manifest), manifest.key_id, manifest.content_id)
    plada.write_payload(
        plada.Payload(some * 5, some % 10, tuple("0123456789"), *identity), digits_file, home=glyph_home
    )
    plada.train(digits_file, student="linear", out=model, home=glyph_home)
    lines = [
        ["index", "glyphs:count=50", "--name", "few", "--home", str(tmp_path / "home")],
        ["select", "--index", "glyphs", "--target", "digits", "-o", str(tmp_path / "a.plada")],
        ["search", "position:1", "--index", "glyphs"],
        ["train", str(digits_file), "--student", "linear", "-o", str(tmp_path / "b.safetensors")],
        ["predict", "photo.png", "--model", str(model)],
        ["evaluate", str(model), "--target", "digits"],
        ["bench", "--index", "glyphs", "--targets", "digits", "--budgets", "400", "--out", str(tmp_path / "bench")],
        ["doctor"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input="\n".join("|".join(words) for words in lines), text=True,
        capture_output=True, env={**os.environ, "PLADA_HOME": str(glyph_home)}, cwd=tmp_path, check=True,
    )  # fmt: skip
    found = dict(zip((words[0] for words in lines), done.stdout.splitlines(), strict=True))
    assert found == dict.fromkeys(found, "after")


def test_a_silent_command_says_that_it_is_starting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shown, "_STARTING_SECONDS", 0.0)
    for as_json in (False, True):
        with shown.FirstSign("search", as_json=as_json) as sign:
            assert isinstance(sign._timer, threading.Timer)
            sign._timer.join()
    printed = capsys.readouterr()
    assert printed.err == "search: starting\n"
    assert printed.out == '{"type": "progress", "stage": "search", "done": 0, "total": null, "rate": 0.0}\n'


def test_a_command_that_has_spoken_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    with shown.FirstSign("search", as_json=False) as sign:
        shown.print_line("found it")
        sign._say()
    assert capsys.readouterr() == ("found it\n", "")
