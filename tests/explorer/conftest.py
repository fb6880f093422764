"""A small index whose keys and classes are as bad as they can be, served on a port of its own."""

import http.client
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.api.explore import listen, make_server, open_gallery
from plada.explorer.gallery import Gallery
from plada.payload.payload import Payload
from tests.conftest import picture
from tests.reports.findings import NASTY

KEYS = (*NASTY, "plain/a", "plain/b", "plain/b2", "plain/c", "a&b=c#d?e%20f+g")
CLASSES = ("first", *NASTY)
COOKIE, TOKEN = "plada-test", "a-token-for-tests"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Client:
    """Asks one server as a browser would that has its cookie. Paths are sent as they are."""

    port: int
    gallery: Gallery
    cookie: str = ""

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            sent = {**({"Cookie": self.cookie} if self.cookie else {}), **named}
            connection.putrequest(method, path, skip_host="Host" in sent, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def enter(self) -> Answer:
        """Take the cookie that the token gives."""
        answer = self.ask(f"/?token={TOKEN}")
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    @property
    def upload_address(self) -> str:
        return f"/upload?form={self.gallery.form_token}"

    def upload(self, data: bytes, *, name: str = "image", count: int = 1, file: bool = True) -> Answer:
        """Send a picture as a form does."""
        mark = uuid.uuid4().hex
        filename = '; filename="../../x.png"' if file else ""
        part = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + data + b"\r\n"
        kind = f"multipart/form-data; boundary={mark}"
        return self.ask(self.upload_address, "POST", part * count + f"--{mark}--\r\n".encode(), Content_Type=kind)


@contextmanager
def serving(gallery: Gallery) -> Iterator[Client]:
    """The pages of `gallery` on a free port, in a thread."""
    from plada.explorer.app import make_app

    with listen(0) as listener:
        server = make_server(make_app(gallery, token=TOKEN, cookie=COOKIE))
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            yield Client(listener.getsockname()[1], gallery)
        finally:
            server.should_exit = True
            thread.join(timeout=120)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def nasty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the index `nasty`, made of `pictures` beside it: KEYS, and one file that is no picture. Beside the
    pictures lies what must never be served."""
    home = tmp_path_factory.mktemp("nasty")
    for number, key in enumerate(KEYS):
        path = home / "pictures" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, (80, 60)).save(path)
    (home / "pictures" / "plain" / "broken.png").write_bytes(b"this is no picture")
    (home / "secret.txt").write_text("TOP SECRET")
    picture(999).save(home / "secret.png")
    plada.index(home / "pictures", name="nasty", encoder="gradients", home=home)
    return home


def nasty_payload(home: Path) -> Payload:
    """Every image but the broken one, each of another class as far as there are classes."""
    index = plada.open_index("nasty", home=home)
    keys = [key for chunk in index.keys_in_order() for key in chunk.to_pylist()]
    positions = np.array([at for at, key in enumerate(keys) if key != "plain/broken"])
    labels = np.arange(len(positions)) % len(CLASSES)
    key_id, content_id = bytes.fromhex(index.info["key_id"]), bytes.fromhex(index.info["content_id"])
    return Payload(positions, labels, CLASSES, len(index), key_id[:8], content_id[:8], notes={"target": "<b>bold</b>"})


@pytest.fixture(scope="session")
def nasty(nasty_home: Path) -> Gallery:
    """The index with two payloads: one that chose nearly all, one that has scores in a table."""
    from plada.explorer.payloads import rank_payload

    payload = nasty_payload(nasty_home)
    scores = np.linspace(0, 1, len(payload))
    ranks = np.array(
        [
            int((scores[payload.labels == label] > score).sum())
            for score, label in zip(scores, payload.labels, strict=True)
        ]
    )
    gallery = open_gallery("nasty", home=nasty_home)
    payloads = (
        rank_payload(payload, "<i>plain.plada", size=1234),
        rank_payload(payload, "folder/scored.plada", scores=scores, ranks=ranks),
    )
    return remade(gallery, payloads=payloads)


def remade(gallery: Gallery, **changed: object) -> Gallery:
    """The same with other parts, and nothing kept yet."""
    parts = {
        name: getattr(gallery, name)
        for name in ("index", "reference", "payloads", "encoder", "no_encoder", "approximate", "notes", "catalogues")
    }
    return Gallery(**{**parts, **changed})


@pytest.fixture(scope="session")
def served(nasty: Gallery) -> Iterator[Client]:
    """A client that has been let in."""
    with serving(nasty) as client:
        client.enter()
        yield client


@pytest.fixture
def stranger(served: Client) -> Client:
    """Another, without the cookie."""
    return Client(served.port, served.gallery)
