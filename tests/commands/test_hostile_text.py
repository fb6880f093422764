"""What a stranger put into a payload, a model or a server's answer does nothing to a terminal, a table or a spreadsheet."""

import csv
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import plada
from plada.cli import app
from plada.payload.payload import Payload
from plada.trainer.export import export_csv
from tests.conftest import make_shades

CLASSES = ("\x1b]52;c;ZXZpbA==\x07evil[bold]\nplada: all is well", "=HYPERLINK(1)\u202egnp[/b]\x9b2J")
BAD = ("\x1b", "\x07", "\x9b", "\u202e", "\r")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def harmless(result: Result, *, status: int = 0) -> str:
    """What was printed, none of which acts; and no line of the stranger's own."""
    shown = result.stdout + result.stderr
    assert result.exit_code == status, shown or result.exception
    assert not any(letter in shown for letter in BAD)
    assert "plada: all is well" not in shown.splitlines()
    return shown


@pytest.fixture
def sent(pictures: Path, tmp_path: Path) -> Path:
    manifest = plada.open_images(pictures).manifest
    positions = np.arange(0, 24, 2)
    payload = Payload(
        positions, positions // 2 % 2, CLASSES, len(manifest), manifest.key_id, manifest.content_id,
        notes={"target": "\x1b[2Jgone", "recipe": {"epochs": 1, "batch_size": 8}},
    )  # fmt: skip
    out = tmp_path / "x[/b].plada"
    plada.write_payload(payload, out)
    return out


def test_inspect(sent: Path) -> None:
    shown = harmless(run("inspect", sent))
    assert "x[/b].plada" in shown
    assert r"evil[bold]\nplada" in shown
    harmless(run("inspect", sent, "--json"))


def test_train_predict_and_evaluate(sent: Path, pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "m[/b].safetensors"
    shown = harmless(
        run(
            "train",
            sent,
            "--reference",
            pictures,
            "--student",
            "test_resnet",
            "--image-size",
            "32",
            "-o",
            model,
            "--recipe",
            "epochs=1",
        )
    )
    assert model.exists(), shown
    assert "evil[bold]" in harmless(run("predict", pictures / "n0", "--model", model))
    shades = make_shades(tmp_path / "shades")
    assert "evil[bold]" in harmless(run("evaluate", model, "--target", shades), status=5)  # other classes


def test_errors_are_one_line(tmp_path: Path) -> None:
    odd = "nothing\x1b[2J\nplada: all is well\u202e"
    for command in (
        ("inspect", odd),
        ("train", odd),
        ("search", odd, "--index", odd),
        ("index", odd),
        ("report", odd, "-o", "r.html"),
    ):
        result = run(*command)
        assert len(harmless(result, status=result.exit_code).splitlines()) == 1, result.stderr
        assert result.exit_code in (2, 3)


@contextmanager
def server(reason: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(f"HTTP/1.0 404 {reason}\r\n\r\n".encode("latin1"))

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/x.plada"
        listening.shutdown()


def test_a_servers_reason() -> None:
    with server("\x1b]0;owned\x07 \x9b2J") as url:
        assert r"\u001b]0;owned\u0007" in harmless(run("inspect", url), status=2)


def test_a_traceback_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    from plada.commands.console.pipes import _print_traceback

    try:
        raise ValueError("\x1b[2J\u202e")
    except ValueError as err:
        _print_traceback(type(err), err, err.__traceback__)
    shown = capsys.readouterr().err
    assert r"ValueError: \u001b[2J\u202e" in shown
    assert not any(letter in shown for letter in BAD)


def test_cells_are_no_formulas(sent: Path, pictures: Path, tmp_path: Path) -> None:
    harmless(run("export", sent, "--to", "csv", "-o", tmp_path / "x.csv", "--reference", pictures))
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {CLASSES[0], f"'{CLASSES[1]}"}
    assert export_csv.__doc__
    assert "apostrophe" in export_csv.__doc__


def test_a_folder_of_a_formula(pictures: Path, tmp_path: Path) -> None:
    manifest = plada.open_images(pictures).manifest
    positions = np.arange(0, 24, 2)
    payload = Payload(positions, positions // 2 % 2, ("-a", "b"), len(manifest), manifest.key_id, manifest.content_id)
    plada.export(payload, to="folder", out=tmp_path / "f", reference=pictures)
    with (tmp_path / "f" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {"'-a", "b"}
    assert all((tmp_path / "f" / row["file_name"]).is_file() for row in rows)
    assert not any(row["file_name"].startswith("-") for row in rows)
