"""What a payload declares is bounded before anything is made of it, and a server cannot hold a client."""

import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import PayloadError, PayloadUnsupported, RequestError, ResourceError
from plada.networks.recipe import Recipe
from plada.payload.payload import Payload
from plada.trainer import linear_student, payload_file


def made(pictures: Path, **notes: Any) -> Payload:
    manifest = plada.open_images(pictures).manifest
    positions = np.arange(0, 24, 2)
    labels = positions // 2 % 2
    return Payload(positions, labels, ("a", "b"), len(manifest), manifest.key_id, manifest.content_id, notes=notes)


@pytest.mark.parametrize(
    ("advice", "words"),
    [
        ({"epochs": 10**9}, "recipe option epochs=1000000000: expected 1 to 10000"),
        ({"batch_size": 10**6}, "recipe option batch_size=1000000: expected 1 to 65536"),
        ({"learning_rate": 10**400}, r"recipe option learning_rate=10+\.\.\.: expected a smaller number"),
        ({"learning_rate": 50}, r"learning_rate=50\.0: expected above 0, below 10"),
        ({"learning_rate": 0}, r"learning_rate=0\.0: expected above 0, below 10"),
        ({"rotate": 10**400}, "rotate=10+"),
        ({"epochs": 10**400}, r"epochs=10+\.\.\.: expected 1 to 10000"),
        ({"ema": 1.0}, r"ema=1\.0: expected 0 or more, below 1"),
        ({"image_size": 4096, "supersample": 2}, "expected a product of at most 4096"),
        (
            {"image_size": 1024, "supersample": 1, "batch_size": 4096},
            "a batch of 4294967296 pixels; expected at most 268435456",
        ),
        ({"epochs": True}, "recipe option epochs=True: expected int"),
        ({"epochs": "x" * 1000}, r"recipe option epochs='x+\.\.\.: expected int"),
        ({"checkpoint_path": "evil.pth"}, "unknown recipe option 'checkpoint_path'"),
    ],
)
def test_a_recipe_is_bounded(advice: dict[str, Any], words: str, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        Recipe().changed(advice)
    assert len(str(refused.value)) < 600
    with pytest.raises(PayloadUnsupported, match=f"the payload's recipe: .*{words}"):
        plada.train(made(pictures, recipe=advice), reference=pictures, student="small_cnn", out=tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("soft", [False, True])
def test_targets_of_a_linear_student_are_bounded(soft: bool, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes can name many images and many classes, and a table of both is what a linear student is fitted to."""
    sent = made(pictures, **({"soft_labels": {"shares": [[0, 255], [1, 255]]}} if soft else {}))
    assert plada.train(sent, reference=pictures, student="linear", encoder="gradients").images == 12
    monkeypatch.setattr(linear_student, "MAX_TARGETS", 23)
    monkeypatch.setattr(linear_student, "embed_payload", None)  # said before any work
    with pytest.raises(
        ResourceError, match="student linear: 12 images of 2 classes are a table of 24 numbers; expected at most 23"
    ):
        plada.train(sent, reference=pictures, student="linear", encoder="gradients")
    with pytest.raises(ResourceError, match="24 numbers"):
        plada.train(sent, reference=pictures, student="small_cnn", expand=1)


def test_train_says_what_came_from_the_payload(pictures: Path, tmp_path: Path) -> None:
    sent = made(pictures, recipe={"epochs": 2, "batch_size": 8, "mirror": False})
    sent.save(tmp_path / "s.plada")
    trained = plada.train(sent, reference=pictures, student="small_cnn", recipe={"epochs": 1})
    assert trained.recommended == {"batch_size": 8, "mirror": False}
    assert plada.train(sent, reference=pictures, student="small_cnn", recipe=sent.recipe).recommended == {}
    words = ["train", tmp_path / "s.plada", "--reference", pictures, "--student", "small_cnn", "-o", tmp_path / "m"]
    shown = CliRunner().invoke(app, [str(word) for word in words])
    assert "options from the payload: batch_size=8, epochs=2, mirror=False (--recipe" in shown.stderr
    again = CliRunner().invoke(app, [str(word) for word in [*words, "--json", "--restart"]])
    assert json.loads(again.stdout.splitlines()[-1])["recommended"] == {"batch_size": 8, "epochs": 2, "mirror": False}


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the client has gone
                answer(self)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        listening.block_on_close = False
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/x.plada"
        listening.shutdown()


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_server_that_drips(part: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_file, "_DEADLINE", 1)
    data = made(pictures).encode()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"" if part == "headers" else b"\r\n" + data[:30]))
        for number in range(200):
            handler.wfile.write(b"X: y\r\n" if part == "headers" else data[30 + number : 31 + number])
            handler.wfile.flush()
            time.sleep(0.2)

    with server(drip) as url:
        began = time.monotonic()
        with pytest.raises(RequestError, match="not here after 1 seconds"):
            payload_file.fetch(url, Path())
        assert time.monotonic() - began < 5


class Dripping:
    """A file system whose file never ends, and gives more than it was asked for."""

    def __init__(self, data: bytes, piece: int, pause: float) -> None:
        self.data, self.piece, self.pause, self.given = data, piece, pause, 0

    def open(self, name: str) -> "Dripping":
        return self

    def __enter__(self) -> "Dripping":
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, *asked: Any) -> bytes:
        time.sleep(self.pause)
        piece = (self.data[self.given :] + bytes(self.piece))[: self.piece]
        self.given += self.piece
        return piece


def test_another_store_that_drips(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_file, "_DEADLINE", 1)
    drip = Dripping(made(pictures).encode(), piece=1, pause=0.2)
    monkeypatch.setattr(payload_file, "open_files", lambda url: (drip, "x.plada"))
    began = time.monotonic()
    with pytest.raises(RequestError, match=r"s3://a/x\.plada: not here after 1 seconds"):
        payload_file.fetch("s3://a/x.plada", Path())
    assert time.monotonic() - began < 5


def test_another_store_that_gives_more_than_it_was_asked_for(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(pictures).encode()
    flood = Dripping(data, piece=1 << 20, pause=0)
    monkeypatch.setattr(payload_file, "open_files", lambda url: (flood, "x.plada"))
    assert len(payload_file.fetch("s3://a/x.plada", Path())) <= max(len(data) + 1, 64)


def test_a_server_whose_payload_claims_a_gigabyte(pictures: Path) -> None:
    data = made(pictures).encode()
    claims = data[:6] + b"\xff\xff\xff\xff\3" + data[7:]

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1073741824\r\n\r\n" + claims)

    tracemalloc.start()
    with server(send) as url, pytest.raises((PayloadError, RequestError)):
        plada.read_payload(url)
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()


def test_a_payload_from_a_server(pictures: Path) -> None:
    data = made(pictures).encode()

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + data)

    with server(send) as url:
        assert plada.read_payload(url).encode() == data
