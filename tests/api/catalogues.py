"""Catalogues that the tests of publishing and pulling share, and a server that counts every byte on the wire."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import plada
from plada.api.catalogue.publish import PublishSummary
from plada.payload.payload import Payload
from tests.payload.test_diff import OLD, changed

FIRST = OLD  # 1 000 images of ten classes, 1.2 kB
SECOND = changed(gone=0.01, relabelled=0.005, added=5, seed=2, notes={"target": "menu"})  # 2 % of the images change
THIRD = changed(SECOND, gone=0.01, added=10, seed=3)


class Publisher:
    """A catalogue's owner: a folder, a key, and payloads that he publishes."""

    def __init__(self, root: Path, name: str = "shop", *, signed: bool = True) -> None:
        self.folder, self.work, self.name = root / name, root / f"{name}-work", name
        self.work.mkdir()
        self.key = plada.keygen(self.work / "key").private if signed else None
        self.public = Path(f"{self.key}.pub")

    def publish(self, *payloads: Payload, task: str = "menu", **options: Any) -> PublishSummary:
        """Publish payloads as forms of one task; none signs anew."""
        files = []
        for number, payload in enumerate(payloads):
            payload.save(self.work / f"{task}-{number}.plada")
            files.append(f"{task}={self.work / f'{task}-{number}.plada'}")
        return plada.publish(self.folder, files, **{"sign": self.key, "name": self.name, **options})

    def files(self) -> dict[str, bytes]:
        """All files of the catalogue by their names in it."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


class Counter:
    """A server of a folder. `wire` counts all bytes that went either way, headers included."""

    def __init__(self) -> None:
        self.wire, self.requests, self.url = 0, 0, ""


@contextmanager
def served(folder: Path) -> Iterator[Counter]:
    """A plain HTTP server of a folder, as `python -m http.server` is."""
    counter = Counter()

    class Counting(SimpleHTTPRequestHandler):
        def setup(self) -> None:
            super().setup()
            read, write = self.rfile.readline, self.wfile.write

            def readline(size: int | None = -1) -> bytes:
                line = read(size)
                counter.wire += len(line)
                return line

            def count(data: Any) -> int:
                counter.wire += len(data)
                return write(data)

            self.rfile.readline = readline  # type: ignore[method-assign]
            self.wfile.write = count  # type: ignore[method-assign]

        def copyfile(self, source: Any, outputfile: Any) -> None:
            outputfile.write(source.read())

        def do_GET(self) -> None:
            counter.requests += 1
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Counting, directory=str(folder)))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    counter.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield counter
    finally:
        server.shutdown()
        server.server_close()
