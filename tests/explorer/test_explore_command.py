"""The command and the call: what is printed, how it ends, and everything that a user can cause in one line."""

import http.client
import importlib.util
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from typer.testing import CliRunner

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

import plada
from plada.api import explore as exploring
from plada.api.explore import ExploreSummary, open_gallery
from plada.cli import app
from plada.errors import MissingExtra, ReferenceMismatch, RequestError, ResourceError, install_command
from plada.retrieval.index import Index
from tests.conftest import picture
from tests.explorer.conftest import nasty_payload
from tests.test_cli import call, refused


@pytest.fixture
def chosen(glyph_home: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A payload and its table."""
    file, table = tmp_path / "digits.plada", tmp_path / "digits.parquet"
    plada.select("glyphs", target="digits", budget=400, rule="balanced", out=file, home=glyph_home).write_table(table)
    return file, table


class Stopped:
    """A server that is stopped at once, as by Ctrl-C; it remembers what it was given."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.sockets: list[Any] = []

    def run(self, sockets: list[socket.socket]) -> None:
        self.sockets = [each.getsockname() for each in sockets]
        raise KeyboardInterrupt


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[Stopped]:
    """Servers that would have run."""
    made: list[Stopped] = []

    def server(app: Any) -> Stopped:
        made.append(Stopped(app))
        return made[-1]

    monkeypatch.setattr(exploring, "make_server", server)
    return made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a browser was asked to open; there is a screen."""
    asked: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)

    def open_url(url: str) -> bool:
        asked.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", open_url)
    return asked


def started(*arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "plada", "explore", *map(str, arguments), "--port", "0", "--no-open"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(glyph_home: Path, ending: signal.Signals) -> None:
    process = started("glyphs", "--home", glyph_home, "--json")
    try:
        assert process.stdout is not None
        while (said := json.loads(process.stdout.readline())).pop("type") == "progress":
            pass  # a busy machine is slow to start
        assert set(said) >= {"url", "port", "index", "images"}
        assert (said["index"], said["images"], said["payloads"], said["words"]) == ("glyphs", 1500, 0, False)
        url = urlsplit(said["url"])
        assert (url.hostname, url.port, url.path) == ("127.0.0.1", said["port"], "/")
        assert len(url.query.removeprefix("token=")) >= 32
        connection = http.client.HTTPConnection("127.0.0.1", said["port"], timeout=120)
        connection.request("GET", f"/?{url.query}")
        assert connection.getresponse().status == 200  # and the connection stays open
        process.send_signal(ending)
        out, err = process.communicate(timeout=120)
        connection.close()
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_what_it_prints_for_people(
    glyph_home: Path, chosen: tuple[Path, Path], stopped: list[Stopped], opened: list[str]
) -> None:
    done = call("explore", "glyphs", chosen[0], "--selection", chosen[1], "--home", glyph_home, "--port", "0")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "glyphs: 1 500 images and 1 payload. Open this address; Ctrl-C ends it:"
    assert lines[1].startswith("http://127.0.0.1:")
    assert len(lines) == 2
    assert "no search by words: gradients have no text tower" in done.stderr
    assert len(opened) == 1
    (address,) = stopped[0].sockets
    assert address[0] == "127.0.0.1"
    assert f":{address[1]}/" in lines[1]
    assert CliRunner().invoke(app, ["--help"]).stdout.count("explore") >= 1


def test_every_start_has_another_token(glyph_home: Path, stopped: list[Stopped]) -> None:
    seen: list[ExploreSummary] = []
    for _ in range(2):
        plada.explore("glyphs", port=0, open_page=False, home=glyph_home, ready=seen.append)
    assert seen[0].url.partition("token=")[2] != seen[1].url.partition("token=")[2]


def test_a_browser_is_given_a_file_that_nobody_else_reads(
    glyphs: Index, stopped: list[Stopped], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments of a program can be read by everyone on a machine; the address holds the token."""
    seen: list[str] = []

    def open_file(url: str) -> bool:
        path = Path(urlsplit(url).path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        seen.extend((url, path.read_text()))
        return True

    monkeypatch.setattr(webbrowser, "open", open_file)
    made: list[ExploreSummary] = []
    plada.explore(glyphs, port=0, ready=made.append)
    assert seen[0].startswith("file://")
    assert "token" not in seen[0]
    assert f"url={made[0].url}" in seen[1]
    assert not Path(urlsplit(seen[0]).path).exists()  # nothing is left behind


@pytest.mark.parametrize(
    ("system", "around", "wanted"),
    [
        ("linux", {}, False),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("darwin", {"SSH_CONNECTION": "1.2.3.4"}, False),
        ("linux", {"SSH_CONNECTION": "1.2.3.4", "DISPLAY": "localhost:10"}, True),
    ],
)
def test_a_browser_is_opened_where_there_is_a_screen(
    glyphs: Index, stopped: list[Stopped], opened: list[str], monkeypatch: pytest.MonkeyPatch,
    system: str, around: dict[str, str], wanted: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    plada.explore(glyphs, port=0)
    plada.explore(glyphs, port=0, open_page=False)
    assert len(opened) == wanted


def test_a_port_in_use(glyph_home: Path) -> None:
    with exploring.listen(0) as other:
        port = other.getsockname()[1]
        message = refused(7, "ResourceError", "explore", "glyphs", "--port", str(port), "--home", glyph_home)
        assert f"port {port} of 127.0.0.1 is in use" in message
        assert "--port 0" in message
        with pytest.raises(ResourceError):
            plada.explore("no-such-index", port=port)  # said before anything is opened
    with exploring.listen(port):
        pass  # free again at once


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(port: int) -> None:
    with pytest.raises(RequestError, match="expected 0 to 65535"):
        plada.explore("x", port=port)
    assert call("explore", "x", "--port", str(port)).exit_code == 2


def test_a_port_that_only_the_system_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert "Permission denied" in refused(2, "RequestError", "explore", "x", "--port", "80")


def test_no_such_index(glyph_home: Path) -> None:
    message = refused(2, "UnknownName", "explore", "glyhps", "--home", glyph_home, "--port", "0")
    assert "did you mean 'glyphs'" in message


def test_without_the_servers_packages(glyph_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match=r"pip install '.*\[explore\]'"):
        plada.explore("glyphs", home=glyph_home)
    assert install_command("explore") in refused(2, "MissingExtra", "explore", "glyphs", "--home", glyph_home)


def test_scores_come_from_the_table_of_a_payload(glyph_home: Path, chosen: tuple[Path, Path], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    file, table = chosen
    (ranked,) = open_gallery("glyphs", [file], selection=[table], home=glyph_home).payloads
    rows = pq.read_table(table).to_pylist()
    for row in rows:
        placement = ranked.find(row["position"])
        assert placement is not None
        assert (placement.label, placement.place - 1) == (row["label"], row["class_rank"])
        assert placement.score == pytest.approx(row["score"])
    assert ranked.bytes == file.stat().st_size
    (bare,) = open_gallery("glyphs", [file], home=glyph_home).payloads
    assert bare.scores is None
    other = tmp_path / "other.plada"
    plada.select("glyphs", target="digits", budget=300, rule="balanced", out=other, home=glyph_home)
    with pytest.raises(RequestError, match="is the table of none of the 1 payloads"):
        open_gallery("glyphs", [other], selection=[table], home=glyph_home)
    first, second = open_gallery("glyphs", [other, file], selection=[table], home=glyph_home).payloads
    assert first.scores is None
    assert second.scores is not None


def test_a_table_with_other_labels(glyph_home: Path, chosen: tuple[Path, Path], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(chosen[1])
    labels = pa.array((np.asarray(table["label"]) + 1) % 10)
    at = table.column_names.index("label")
    pq.write_table(table.set_column(at, "label", labels), tmp_path / "wrong.parquet")
    with pytest.raises(RequestError, match="other labels"):
        open_gallery("glyphs", [chosen[0]], selection=[tmp_path / "wrong.parquet"], home=glyph_home)


def test_a_payload_of_other_images(glyph_home: Path, nasty_home: Path, tmp_path: Path) -> None:
    file = tmp_path / "nasty.plada"
    plada.write_payload(nasty_payload(nasty_home), file)
    message = refused(4, "ReferenceMismatch", "explore", "glyphs", file, "--home", glyph_home, "--port", "0")
    assert f"payload {file} labels" in message
    (tmp_path / "bad.plada").write_bytes(b"nonsense")
    refused(3, "PayloadCorrupt", "explore", "glyphs", tmp_path / "bad.plada", "--home", glyph_home, "--port", "0")
    refused(2, "RequestError", "explore", "glyphs", tmp_path / "none.plada", "--home", glyph_home, "--port", "0")


@pytest.fixture
def moved(tmp_path: Path, home: Path) -> Iterator[tuple[Path, Path]]:
    """An indexed folder that has been moved, and a re-encoded copy of it."""
    here, copy = tmp_path / "here", tmp_path / "copy"
    for number in range(4):
        for folder, suffix in ((here, "png"), (copy, "jpg")):
            (folder / "a").mkdir(parents=True, exist_ok=True)
            picture(number).save(folder / "a" / f"{number}.{suffix}")
    plada.index(here, name="here", encoder="gradients", home=home)
    yield here.rename(tmp_path / "there"), copy


def test_images_that_have_moved(moved: tuple[Path, Path], tmp_path: Path) -> None:
    there, copy = moved
    assert "here" in refused(2, "RequestError", "explore", "here", "--port", "0")
    assert open_gallery("here", reference=there).picture(0, 176).data
    message = refused(4, "ReferenceMismatch", "explore", "here", "--reference", copy, "--port", "0")
    assert "--same-keys" in message
    assert open_gallery("here", reference=copy, same_keys=True).picture(0, 176).data
    (copy / "a" / "more.jpg").write_bytes((copy / "a" / "0.jpg").read_bytes())
    with pytest.raises(ReferenceMismatch, match="here are 5"):
        open_gallery("here", reference=copy, same_keys=True)


def test_a_payload_of_a_copy(moved: tuple[Path, Path], tmp_path: Path) -> None:
    there, copy = moved
    images = plada.open_images(copy)
    payload = plada.Payload(
        np.array([1, 3]), np.array([0, 0]), ("a",), 4, images.manifest.key_id, images.manifest.content_id
    )
    plada.write_payload(payload, tmp_path / "copy.plada")
    with pytest.raises(ReferenceMismatch, match="say --same-keys"):
        open_gallery("here", [tmp_path / "copy.plada"], reference=there)
    (ranked,) = open_gallery("here", [tmp_path / "copy.plada"], reference=there, same_keys=True).payloads
    assert ranked.best(0, 0, 9) == [1, 3]


def test_it_runs_without_a_home_of_its_own(glyph_home: Path) -> None:
    """Nothing of what is looked at is written to."""
    before = {path: path.stat().st_mtime_ns for path in glyph_home.rglob("*") if path.is_file()}
    gallery = open_gallery("glyphs", home=glyph_home)
    gallery.near_position(3)
    gallery.picture(3, 176)
    assert {path: path.stat().st_mtime_ns for path in glyph_home.rglob("*") if path.is_file()} == before
    assert os.environ["PLADA_HOME"] != str(glyph_home)
