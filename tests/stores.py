"""A store of objects on this machine, as S3 is one: its server, and a wire to it that can be cut."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ACCESS, SECRET = "THE-ACCESS-KEY", "THE-SECRET-KEY"
BUCKET = "bucket"


@dataclass
class Store:
    """A store's address, and its client."""

    port: int
    client: Any

    def put(self, folder: Path, prefix: str) -> str:
        """Copy a folder into the bucket; its URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")
        return f"s3://{BUCKET}/{prefix}"

    def environment(self, port: int | None = None) -> dict[str, str]:
        """What tells a client of the store, or of a wire to it."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{port or self.port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip


@contextmanager
def store() -> Iterator[Store]:
    """A server with an empty bucket; the test is skipped where its packages are missing."""
    for package in ("moto", "boto3", "flask", "flask_cors"):
        pytest.importorskip(package, reason="no object store to test with: pip install 'pladata[dev]'")
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it says every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
        )  # fmt: skip
        client.create_bucket(Bucket=BUCKET)
        yield Store(port, client)
    finally:
        server.stop()


@contextmanager
def no_aws(environment: dict[str, str]) -> Iterator[None]:
    """No other setting of AWS than these."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in environment:
            os.environ.pop(name, None)
        os.environ.update(before)


@dataclass
class Wire:
    """Passes on what goes to and from a port, until `limit` bytes came back; then it says nothing more, or answers what it is told
    to."""

    port: int
    limit: float = float("inf")
    hang: bool = False
    answer: bytes = b""
    passed: int = 0
    asked: int = 0
    _server: socket.socket = field(init=False)

    def __enter__(self) -> "Wire":
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @property
    def own_port(self) -> int:
        """Where it listens."""
        return int(self._server.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self.asked += 1
            if self.answer:
                threading.Thread(target=self._say, args=(near,), daemon=True).start()
                continue
            if self._spent() and not self.hang:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.port))
            for pair in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _say(self, near: socket.socket) -> None:
        near.recv(65_536)
        near.sendall(self.answer)
        near.close()

    def _spent(self) -> bool:
        return self.passed >= self.limit

    def _pass(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        try:
            while data := source.recv(65_536):
                if self._spent():
                    if not self.hang:
                        break
                    time.sleep(60)
                self.passed += len(data) if back else 0
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            each.close()
