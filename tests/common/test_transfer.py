"""Files over links that break: resumed, or refused by name; what is there is whole and right."""

import errno
import random
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import fsspec
import pytest
from blake3 import blake3

from benchmarks.faulty_links import FaultyServer, faulty_server
from plada.common import transfer
from plada.common.progress import Progress
from plada.common.transfer import fetch_bytes, fetch_file
from plada.errors import PayloadCorrupt, PayloadError, PayloadTruncated, RequestError, ResourceError

DATA = random.Random(0).randbytes(1000)
DIGEST = blake3(DATA).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with faulty_server({"x.plada": DATA, "empty": b"", "a b.bin": DATA}) as running:
        yield running


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses; little patience where a link is to try it."""
    monkeypatch.setattr(transfer, "_PAUSE", 0.001)
    tries = any(fault in request.node.name for fault in ("stall", "silent", "drip", "later"))
    monkeypatch.setattr(transfer, "_TIMEOUT", 0.15 if tries else 10.0)
    monkeypatch.setattr(transfer, "_ANSWER", 0.3 if tries else 10.0)


def fetch(url: str, out: Path, **options: Any) -> bytes:
    fetch_file(url, out, **{"size": len(DATA), "digest": DIGEST, "max_bytes": 10_000, **options})
    return out.read_bytes()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "fault", ["stall-once", "reset-once", "cut-once", "corrupt-once", "whole-cut-once", "unsized-cut-once"]
)
def test_broken_links_are_resumed(fault: str, server: FaultyServer, tmp_path: Path) -> None:
    for byte in (0, 1, 10, 500, 999):
        url = server.url("x.plada", fault, byte)
        assert fetch(url, tmp_path / f"{byte}.plada") == DATA
        assert 2 <= server.requests[f"/{fault}/{byte}/x.plada"] < 5
    assert left(tmp_path) == ["0.plada", "1.plada", "10.plada", "500.plada", "999.plada"]


def test_a_link_that_cuts_at_every_tenth_byte_brings_it_all(server: FaultyServer, tmp_path: Path) -> None:
    url = server.url("x.plada", "cut", 10)
    assert fetch(url, tmp_path / "x.plada") == DATA
    path = "/cut/10/x.plada"
    assert 100 <= server.requests[path] < 120 and server.sent[path] <= 10 * server.requests[path]  # no byte came twice
    assert fetch(server.url("x.plada", "reset", 0), tmp_path / "x.plada") == DATA  # there already: nothing is asked


@pytest.mark.parametrize("fault", ["redirect", "busy-once", "silent-once", "none", "unsized"])
def test_detours_are_taken(fault: str, server: FaultyServer, tmp_path: Path) -> None:
    assert fetch(server.url("x.plada", fault), tmp_path / "x.plada") == DATA
    assert fetch(server.url("x.plada", fault), tmp_path / "y.plada", size=None, digest=None) == DATA
    assert fetch(server.url("x.plada", fault), tmp_path / "z.plada", size=None, digest=DIGEST[:32].upper()) == DATA
    assert fetch_bytes(server.url("x.plada", fault), max_bytes=1000) == DATA


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("stall", RequestError, "broke off after 100 of 1000 bytes (timed out); 5 attempts in a row"),
        ("reset", RequestError, "broke off after 100 of 1000 bytes"),
        ("whole-cut", RequestError, "broke off after 100 of 1000 bytes (it ended after 100 of 1000 bytes)"),
        ("corrupt", PayloadCorrupt, f"came twice, and its BLAKE3 is not {DIGEST[:16]} as expected"),
        ("loop", RequestError, "cannot be fetched (HTTP 302"),
        ("elsewhere", RequestError, "leads to ftp://127.0.0.1/x, which is ftp and not http"),
        ("silent", RequestError, "broke off after 0 of 1000 bytes (timed out)"),
        ("busy", RequestError, "broke off after 0 of 1000 bytes (HTTP 503"),
        ("missing", RequestError, "cannot be fetched (HTTP 404 Not Found). Check the address"),
        ("longer", PayloadCorrupt, "has 1004 bytes; expected 1000"),
        ("shorter", PayloadTruncated, "has 999 bytes; expected 1000"),
        ("packed", RequestError, "came as gzip, which was not asked for"),
        ("noise", RequestError, "broke off after 0 of 1000 bytes"),
        ("drip", RequestError, "broke off after 0 of 1000 bytes (timed out)"),
    ],
)
def test_other_links_are_refused_by_name(
    fault: str, error: type[PayloadError], message: str, server: FaultyServer, tmp_path: Path
) -> None:
    url = server.url("x.plada", fault, 100)
    with pytest.raises(error) as caught:
        fetch(url, tmp_path / "x.plada")
    assert str(caught.value).startswith(url if fault != "loop" else "http") and message in str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "x.plada").exists()
    if fault != "corrupt":
        with pytest.raises((RequestError, PayloadError)):
            fetch_bytes(url, max_bytes=998)


def test_a_later_call_resumes(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"What has come is kept, and the same call resumes it"):
        fetch(server.url("x.plada", "stall", 700), tmp_path / "x.plada")
    assert left(tmp_path) == ["x.plada.part"]
    assert fetch(server.url("x.plada"), tmp_path / "x.plada") == DATA
    assert server.sent["/none/0/x.plada"] % 1000 == 300 and left(tmp_path) == ["x.plada"]


@pytest.mark.parametrize("part", [b"", DATA[:10], b"other", DATA, b"x" * 1000, DATA + b"more", b"y" * 3000])
@pytest.mark.parametrize("size", [None, 1000])
def test_what_an_earlier_call_left_is_only_taken_if_it_is_right(
    part: bytes, size: int | None, server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / "x.plada.part").write_bytes(part)
    assert fetch(server.url("x.plada"), tmp_path / "x.plada", size=size) == DATA
    (tmp_path / "y.plada.part").write_bytes(part)
    assert fetch(server.url("x.plada"), tmp_path / "y.plada", size=size, digest=None) == DATA


def test_a_wrong_file_under_the_name_is_replaced(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "x.plada").write_bytes(b"old")
    assert fetch(server.url("x.plada"), tmp_path / "x.plada") == DATA
    (tmp_path / "folder").mkdir()
    with pytest.raises(RequestError, match="is a folder"):
        fetch(server.url("x.plada"), tmp_path / "folder")


def test_what_is_too_large_is_refused_before_it_comes(server: FaultyServer, tmp_path: Path) -> None:
    before = server.sent["/none/0/x.plada"]
    with pytest.raises(PayloadCorrupt, match="has 1000 bytes or more; at most 999 are taken here"):
        fetch(server.url("x.plada"), tmp_path / "x.plada", max_bytes=999)
    with pytest.raises(PayloadCorrupt, match="at most 999"):
        fetch_bytes(server.url("x.plada"), max_bytes=999)
    with pytest.raises(PayloadCorrupt, match="at most 999"):
        fetch_bytes(server.url("x.plada", "unsized"), max_bytes=999)
    assert server.sent["/none/0/x.plada"] <= before + 1000 and left(tmp_path) == []


def test_another_range_than_was_asked_for_is_not_taken(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "x.plada.part").write_bytes(DATA[:10])
    with pytest.raises(RequestError, match="byte 9 came where 10 was asked for"):
        fetch(server.url("x.plada", "other-range"), tmp_path / "x.plada")


def test_requests_are_short(server: FaultyServer, tmp_path: Path) -> None:
    fetch(server.url("x.plada"), tmp_path / "x.plada")
    assert sorted(server.headers[-1]) == ["Accept-Encoding", "Connection", "Host", "User-Agent"]
    assert sum(len(f"{name}: {value}\r\n") for name, value in server.headers[-1].items()) < 110


def test_bytes_of_two_versions_are_never_joined(server: FaultyServer) -> None:
    """Without anything that names the version it begins anew, and with it the server decides."""
    with pytest.raises(RequestError, match="5 attempts in a row"):
        fetch_bytes(server.url("x.plada", "cut", 10), max_bytes=10_000)
    assert "Range" not in server.headers[-1]
    old, new = formatdate(0, usegmt=True), formatdate(59, usegmt=True)
    assert transfer._version({"ETag": '"a"'}) == '"a"'
    assert transfer._version({"ETag": 'W/"a"', "Last-Modified": old, "Date": formatdate(60, usegmt=True)}) == old
    assert transfer._version({"Last-Modified": old, "Date": new}) == ""
    assert transfer._version({"Last-Modified": "junk", "Date": new}) == transfer._version({}) == ""


def test_bytes_of_one_version_are_joined() -> None:
    with faulty_server({"x": DATA}, tagged=True) as server:
        assert fetch_bytes(server.url("x", "cut", 100), max_bytes=10_000) == DATA
        assert server.headers[-1]["Range"] == "bytes=900-"
        assert server.headers[-1]["If-Range"].startswith('"')
        assert fetch_bytes(server.url("x", "whole-cut-once", 100), max_bytes=10_000) == DATA


def test_a_file_that_changes_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of the old one is dropped."""
    files = {"x": DATA}
    judge = transfer._Transfer._judge

    def change(self: Any, err: Exception, idle: int, come: int) -> None:
        files.update({"x": DATA[::-1]} if come == 300 else {})
        judge(self, err, idle, come)

    monkeypatch.setattr(transfer._Transfer, "_judge", change)
    with faulty_server(files, tagged=True) as server:
        assert fetch_bytes(server.url("x", "cut", 100), max_bytes=10_000) == DATA[::-1]


def test_empty_files_and_names_with_spaces(server: FaultyServer, tmp_path: Path) -> None:
    fetch_file(server.url("empty"), tmp_path / "empty", size=0, digest=blake3(b"").hexdigest(), max_bytes=0)
    assert (tmp_path / "empty").read_bytes() == b"" == fetch_bytes(server.url("empty"), max_bytes=0)
    with pytest.raises(RequestError, match="cannot be fetched"):
        fetch_bytes(server.url("a b.bin"), max_bytes=10_000)


def test_no_network(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:9/x", "http://no.such.host.invalid/x"):
        with pytest.raises(RequestError, match=r"broke off after 0 of 1000 bytes .*Try again later"):
            fetch(url, tmp_path / "x.plada")
    for url in ("http://[/x", "http:///x", "http://127.0.0.1:port/x"):
        with pytest.raises(RequestError, match=r"cannot be fetched|broke off"):
            fetch_bytes(url, max_bytes=10)


def test_paths_and_stores(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)
    with fsspec.open("memory://transfer/x", "wb") as file:
        file.write(DATA)
    for place in (
        str(tmp_path / "x"),
        (tmp_path / "x").as_uri(),
        "memory://transfer/x",
        f"simplecache::file://{tmp_path / 'x'}",
    ):
        for part in (b"", DATA[:400], b"z"):
            (tmp_path / "out.part").write_bytes(part)
            (tmp_path / "out").unlink(missing_ok=True)
            assert fetch(place, tmp_path / "out") == DATA
        assert fetch_bytes(place, max_bytes=1000) == DATA
        with pytest.raises(PayloadCorrupt, match="at most 999"):
            fetch_bytes(place, max_bytes=999)
    for place in (str(tmp_path / "none"), str(tmp_path), "memory://transfer/none"):
        with pytest.raises(RequestError, match="cannot be fetched"):
            fetch_bytes(place, max_bytes=10)
    with pytest.raises(RequestError, match=r"nonsense://x: cannot be read here"):
        fetch_bytes("nonsense://x", max_bytes=10)


def test_a_store_that_breaks_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFile

    with fsspec.open("memory://transfer/y", "wb") as file:
        file.write(DATA)
    calls = []
    whole = MemoryFile.read

    def read(self: Any, size: int = -1) -> bytes:
        calls.append(self.tell())
        if len(calls) % 2 == 0:
            raise RuntimeError("the bucket is away\nfor now")
        return bytes(whole(self, min(size, 300)))

    monkeypatch.setattr(MemoryFile, "read", read)
    assert fetch("memory://transfer/y", tmp_path / "y") == DATA
    assert calls[:4] == [0, 300, 300, 600]
    monkeypatch.setattr(MemoryFile, "read", lambda *_: (_ for _ in ()).throw(RuntimeError("the bucket is away")))
    with pytest.raises(
        RequestError, match=r"memory://transfer/y: broke off after 0 of 1000 bytes \(the bucket is away\)"
    ):
        fetch("memory://transfer/y", tmp_path / "z")


def test_a_full_disk(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="cannot be written"):
        fetch(server.url("x.plada"), tmp_path / "x.plada")
    assert left(tmp_path) == ["x.plada.part"]


def test_too_slow_a_link_is_given_up(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_GRACE", -100.0)
    with pytest.raises(RequestError, match=r"too slow\); it takes too long. What has come is kept"):
        fetch(server.url("x.plada"), tmp_path / "x.plada")


def test_two_calls_for_one_file(server: FaultyServer, tmp_path: Path) -> None:
    before = server.requests["/none/0/x.plada"]
    threads = [threading.Thread(target=fetch, args=(server.url("x.plada"), tmp_path / "x.plada")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x.plada").read_bytes() == DATA and left(tmp_path) == ["x.plada"]
    assert server.requests["/none/0/x.plada"] == before + 1


def test_progress_and_notes(server: FaultyServer, tmp_path: Path) -> None:
    events: list[Progress] = []
    fetch(server.url("x.plada", "reset-once", 321), tmp_path / "x.plada", report=events.append)
    assert any("broke off after 321 bytes" in event.note for event in events)
    assert (events[-1].done, events[-1].total, events[-1].stage) == (1000, 1000, "fetch")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of 127.0.0.1 that nobody has signed but itself."""
    pytest.importorskip("cryptography", reason="cryptography is not installed (extra: sign)")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_https(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is not believed is refused at once; so is a redirect to what anybody on the way can read and change."""
    with faulty_server({"x": DATA}) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url("x").replace("http:", "https:")
        with pytest.raises(RequestError, match=r"https://.*cannot be fetched \(.*certificate verify failed"):
            fetch_bytes(url, max_bytes=1000)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch_bytes(url, max_bytes=1000) == DATA
        assert fetch(server.url("x", "cut", 200).replace("http:", "https:"), tmp_path / "x") == DATA
        monkeypatch.setattr(server, "elsewhere", server.url("x"))
        with pytest.raises(RequestError, match=r"which is http and not https\. Name the address"):
            fetch_bytes(server.url("x", "elsewhere").replace("http:", "https:"), max_bytes=1000)
