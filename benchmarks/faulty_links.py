"""A web server whose links break, for tests and for the benchmark of the server: what goes wrong stands in the address.

`/FAULT/BYTE/NAME` is the file NAME, sent by a link that does FAULT at byte BYTE; a fault whose name ends in `-once` spares later
requests for the same address.
"""

import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Event, Thread

FAULTS = (
    "none", "stall", "stall-once", "reset", "reset-once", "cut", "cut-once", "corrupt", "corrupt-once", "whole", "whole-cut",
    "whole-cut-once", "redirect", "loop", "elsewhere", "silent", "silent-once", "busy", "busy-once", "missing", "longer", "shorter",
    "unsized", "unsized-cut-once", "other-range", "packed", "noise", "drip",
)  # fmt: skip


class FaultyServer(ThreadingHTTPServer):
    """Serves `files` by name. `requests` counts what was asked of each address, `sent` the bytes of its bodies. `tagged`: it names the
    version of each file, as most servers do, so that a client can ask for the rest of the same one."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files: Mapping[str, bytes], *, tagged: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.tagged = files, tagged
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.over = Event()
        self.elsewhere = "ftp://127.0.0.1/x"  # where the fault of that name leads

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what it is for."""

    def url(self, name: str, fault: str = "none", byte: int = 0) -> str:
        """The address of a file over a link of a kind."""
        return f"http://127.0.0.1:{self.server_port}/{fault}/{byte}/{name}"


@contextmanager
def faulty_server(files: Mapping[str, bytes], *, tagged: bool = False) -> Iterator[FaultyServer]:
    """A running server, stopped at the end."""
    with FaultyServer(files, tagged=tagged) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.close_connection = True
        fault, at, *rest = self.path.strip("/").split("/")
        name = str(PurePosixPath(*rest)) if rest else ""
        self.server.requests[self.path] += 1
        self.server.headers.append(dict(self.headers.items()))
        if fault.endswith("-once") and self.server.requests[self.path] > 1:
            fault = "whole" if fault.startswith("whole") else "none"
        if fault == "missing" or name not in self.server.files:
            self.send_error(404)
        else:
            self._serve(fault.removesuffix("-once"), int(at), name)

    def _serve(self, fault: str, at: int, name: str) -> None:
        match fault:
            case "redirect":
                self._lead(f"/none/0/{name}")
            case "loop":
                self._lead(self.path)
            case "elsewhere":
                self._lead(self.server.elsewhere)
            case "silent":
                self._wait()
            case "busy":
                self.send_error(503)
            case "noise":
                self._send(b"\x00\xff what is this\r\n\r\n")
            case "drip":
                with suppress(OSError):
                    for letter in b"HTTP/1.1 200 OK\r\n" + b"X-Drip: 1\r\n" * 10_000:
                        self.connection.sendall(bytes([letter]))
                        if self.server.over.wait(0.02):
                            return
            case _:
                self._send_file(fault, at, self.server.files[name])

    def _send_file(self, fault: str, at: int, data: bytes) -> None:
        start = 0
        tag = f'"{zlib.crc32(data):08x}"'
        wanted = self.headers.get("Range") if self.headers.get("If-Range", tag) == tag else None
        if wanted and not fault.startswith(("whole", "unsized")):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
        body = data[start:]
        if fault == "longer":
            body += b"more"
        elif fault == "shorter":
            body = body[:-1]
        elif fault == "other-range" and start:
            start -= 1
        elif fault == "corrupt" and start <= at < len(data):
            body = body[: at - start] + bytes([body[at - start] ^ 1]) + body[at - start + 1 :]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{start + len(body)}")
        if self.server.tagged:
            self.send_header("ETag", tag)
        if fault == "packed":
            self.send_header("Content-Encoding", "gzip")
        if not fault.startswith("unsized"):
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        # A link that cuts every connection lets `at` bytes through each; the others break at byte `at` of the file.
        end = at if fault.endswith("cut") else max(0, at - start)
        if fault in ("stall", "reset") or fault.endswith("cut"):
            self._send(body[:end])
            if fault == "stall":
                self._wait()
            elif fault == "reset":
                time.sleep(0.002)  # what was sent arrives before
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        else:
            self._send(body)

    def _send(self, body: bytes) -> None:
        with suppress(OSError):
            self.connection.sendall(body)
            self.server.sent[self.path] += len(body)

    def _lead(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _wait(self) -> None:
        """Until the client goes away, or the server ends."""
        self.connection.settimeout(0.05)
        while not self.server.over.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
