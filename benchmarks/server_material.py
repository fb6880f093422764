"""What the benchmark of the server works on: payloads, a catalogue's owner, a server in a process of its own, and a proxy that counts
bytes on the wire."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np

import plada
from plada.payload.payload import Payload

REFERENCE = 40_000  # images
CLASSES = 10
_SERVE = """
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

class Server(ThreadingHTTPServer):
    request_queue_size, daemon_threads = 1024, True  # connections that wait, as of nginx

class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass

with Server(("127.0.0.1", 0), partial(Handler, directory=sys.argv[1])) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
"""


def task_of(size: int, seed: int = 0) -> Payload:
    """A payload whose file has `size` bytes, or a few less."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(REFERENCE)
    labels = draw.integers(0, CLASSES, REFERENCE)
    few, many = 10, size * 4
    while many - few > 1:
        count = (few + many) // 2
        few, many = (count, many) if len(_payload(order[:count], labels, 1).encode()) <= size else (few, count)
    return _payload(order[:few], labels, 1)


def updated(old: Payload, share: float, seed: int = 1) -> Payload:
    """The same task with a share of its images gone and as many new ones."""
    draw = np.random.default_rng(seed)
    count = max(1, round(share * len(old) / 2))
    kept = np.delete(old.positions, draw.choice(len(old), count, replace=False))
    fresh = np.setdiff1d(draw.choice(REFERENCE, 4 * count, replace=False), old.positions)[:count]
    labels = np.zeros(REFERENCE, np.int64)
    labels[old.positions] = old.labels
    labels[fresh] = draw.integers(0, CLASSES, count)
    return _payload(np.concatenate([kept, fresh]), labels, old.serial + 1)


def _payload(positions: Any, labels: Any, serial: int) -> Payload:
    chosen = np.sort(positions)
    names = tuple(f"class {number}" for number in range(CLASSES))
    return Payload(chosen, labels[chosen], names, REFERENCE, bytes(range(16)), bytes(range(16, 32)), serial=serial)


class Owner:
    """Who publishes a signed catalogue: its folder, and his key."""

    def __init__(self, root: Path, name: str = "tasks") -> None:
        self.root, self.folder, self.name = root, root / name, name
        self.key = plada.keygen(root / f"{name}.key").private

    def publish(self, payload: Payload | None = None, task: str = "menu", **options: Any) -> Any:
        """Publish a payload as a task; none signs anew."""
        files = []
        if payload is not None:
            payload.save(self.root / f"{task}.plada")
            files = [f"{task}={self.root / f'{task}.plada'}"]
        return plada.publish(self.folder, files, **{"sign": self.key, "name": self.name, **options})

    def files(self) -> dict[str, bytes]:
        """All files of the catalogue."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@dataclass(slots=True)
class Served:
    """A static server in a process of its own."""

    port: int
    process: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def peak_memory(self) -> int:
        """The most memory that it has had, in bytes; 0 where the system does not say."""
        with suppress(OSError, StopIteration, ValueError):
            lines = Path(f"/proc/{self.process}/status").read_text().splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
        return 0


@contextmanager
def static_server(folder: Path) -> Iterator[Served]:
    """The standard library's server of a folder, a thread a connection; as `python -m http.server` but with a longer queue."""
    with subprocess.Popen([sys.executable, "-c", _SERVE, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Served(int(process.stdout.readline()), process.pid)
        finally:
            process.kill()


class CountingProxy:
    """Passes connections on to a port of this machine. `sent` and `received` are all bytes that clients sent and got: headers too, but
    not those of TCP and IP."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.sent = self.received = self.connections = 0
        self._lock = Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def take(self) -> int:
        """Bytes either way since this was asked last."""
        with self._lock:
            total = self.sent + self.received
            self.sent = self.received = self.connections = 0
        return total

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self.connections += 1
                Thread(target=self._pass, args=(client, server, "sent"), daemon=True).start()
                Thread(target=self._pass, args=(server, client, "received"), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    setattr(self, name, getattr(self, name) + len(data))
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if name == "received":
            source.close()


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder for one measurement."""
    with tempfile.TemporaryDirectory(prefix="plada-server-") as folder:
        yield Path(folder)
