"""What a stranger could put into anything that plada reads: planted pickles, paths that lead elsewhere, bombs, control characters.

A case is refused when the call ends with an error of plada's, or, for names, when everything is shown as visible text; when the
planted code has not run, nothing was written outside of the place that was named, and memory and time stay within bounds.
"""

import io
import json
import os
import pickle
import resource
import struct
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner

import plada
from benchmarks.faults_material import Material, tree
from plada.cli import app
from plada.common.checksums import seal, sealed_json
from plada.encoders.encoder import load_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import PladaError
from plada.indexer.store import Store
from plada.labeler.custom_teachers import table_teacher
from plada.labeler.embedding_cache import load_embeddings
from plada.networks.checkpoint import read_checkpoint
from plada.networks.network import NetworkSpec, build_network
from plada.networks.recipe import Recipe
from plada.payload.container import LABELS, PLAN, Header, write_container
from plada.payload.pack import read_pack
from plada.payload.payload import parse_payload
from plada.sources.decode import decode
from plada.sources.formats.listing import load_listing
from plada.sources.registry import open_target
from plada.trainer.model import load_model
from plada.trainer.model_file import read_card, save_model

NETWORK = "test_resnet"  # the smallest that timm has
SECONDS, MEMORY = 30.0, 400 << 20  # of one case
NASTY = "\x1b]52;c;ZXZpbA==\x07evil[bold]\nplada: all is well\u202e\x9b2J"
ACTING = ("\x1b", "\x07", "\x9b", "\u202e", "\r")
ESCAPES = ("../../escaped", "/tmp/plada-escaped", "..\\..\\escaped", "..", "a/../../escaped", ".hidden", "a\0b")

Case = Callable[..., Any]  # called with nothing; a lambda keeps its values as defaults


class Planted:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


class NotRefused(Exception):
    """A case that went through; the message says how."""


def measure(material: Material) -> dict[str, Any]:
    """Try every case; the first words of a case's name are its kind."""
    work = material.file("hostile")
    work.mkdir()
    mark, before = work / "it-ran", _outside(material)
    wrong, counts = list[str](), dict[str, int]()
    for name, case in cases(material, work, mark):
        counts[name.split(":")[0]] = counts.get(name.split(":")[0], 0) + 1
        began, held = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            case()
            said = "went through"
        except PladaError:
            said = ""
        except _Shown:
            said = ""
        except NotRefused as err:
            said = str(err)
        except Exception as err:
            said = f"{type(err).__name__}: {str(err)[:150]}"
        took, grown = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
        if mark.exists():
            said = "the planted code ran"
            mark.rmdir()
        elif took > SECONDS or grown * 1024 > MEMORY:
            said = f"took {took:.0f} s and {grown >> 10} MiB"
        elif (after := _outside(material)) != before:
            said = f"wrote outside: {', '.join(sorted(after ^ before))[:150]}"
            before = after
        if said:
            wrong.append(f"{name}: {said}")
    total = sum(counts.values())
    return {
        "hostile": total, "hostile_refused": total - len(wrong), "hostile_wrong": wrong, "hostile_by_kind": counts,
    }  # fmt: skip


class _Shown(Exception):
    """The text was shown, and does nothing."""


def _outside(material: Material) -> set[str]:
    """Names where an escape would lead: above the material, beside it, and the one absolute place that is planted."""
    places = [material.root.parent / "escaped", material.root / "escaped", Path("/tmp/plada-escaped")]
    found = {str(path) for path in places for path in path.parent.glob(f"{path.name}*")}
    return found | {str(path) for path in material.root.iterdir()}


def cases(material: Material, work: Path, mark: Path) -> Iterator[tuple[str, Case]]:
    """Name and call of every case."""
    yield from _pickles(material, work, mark)
    yield from _paths(material, work)
    yield from _bombs(material, work)
    yield from _names(material, work)


def _model(path: Path, **changed: Any) -> Path:
    network = build_network(NetworkSpec(name=NETWORK), classes=2)
    card = {
        "network": NETWORK, "classes": ["a", "b"], "size": 32, "crop": 1.0, "interpolation": "bicubic", "mean": [0.5] * 3,
        "std": [0.5] * 3, "recipe": {}, "model_args": {}, **changed,
    }  # fmt: skip
    save_model(path, network.module.state_dict(), card)
    return path


def _pickles(material: Material, work: Path, mark: Path) -> Iterator[tuple[str, Case]]:
    evil = work / "evil.pth"
    evil.write_bytes(pickle.dumps(Planted(mark), protocol=2))
    raw = evil.read_bytes()
    array = np.array([Planted(mark)], object)
    model = work / "m.safetensors"
    planted: dict[str, Any] = {
        "checkpoint_path": str(evil), "pretrained_cfg": {"file": str(evil)}, "pretrained_cfg_overlay": {"file": str(evil)},
        "pretrained": True, "cache_dir": str(work), "features_only": True, "pretrained_custom_load": True,
    }  # fmt: skip
    for name, value in planted.items():
        arguments = {name: value}
        yield f"pickle: card {name}", lambda a=arguments: load_model(_model(model, model_args=a))
        yield (
            f"pickle: network argument {name}",
            lambda a=arguments: build_network(NetworkSpec(name=NETWORK, model_args=a), classes=2),
        )
        yield (
            f"pickle: encoder argument {name}",
            lambda a=arguments: load_encoder(EncoderSpec(name=f"timm:{NETWORK}.random", model_args=a)),
        )
        yield f"pickle: payload recipe {name}", lambda a=arguments: Recipe().changed({"model_args": a})
        yield f"pickle: index.json {name}", lambda a=arguments: _index_of(material, work, a)
        text = f"{name}={json.dumps(value)}"
        line = ["train", material.file("old.plada"), "--reference", material.pictures, "--student", NETWORK]
        yield f"pickle: command line {name}", lambda w=[*line, "--model-arg", text, "-o", work / "c"]: _fails(w)
    hub = work / "hub"
    hub.mkdir()
    (hub / "config.json").write_text(json.dumps({"architecture": NETWORK, "model_args": planted}))
    (hub / "pytorch_model.bin").write_bytes(raw)
    for name in (
        f"local-dir:{hub}",
        f"timm:local-dir:{hub}",
        "hf-hub:nobody/nothing",
        f"{NETWORK}.a/b:c",
        f"{NETWORK}\n",
    ):
        yield f"pickle: network {name!r}", lambda n=name: build_network(NetworkSpec(name=n, pretrained=True), classes=2)
        yield f"pickle: card of network {name!r}", lambda n=name: load_model(_model(model, network=n))
    yield "pickle: weights of a network", lambda: build_network(NetworkSpec(name=NETWORK, weights=evil), classes=2)
    yield (
        "pickle: weights of an encoder",
        lambda: load_encoder(EncoderSpec(name=f"timm:{NETWORK}", tag="r160_in1k", weights=evil)),
    )
    yield "pickle: model", lambda: load_model(evil)
    yield "pickle: payload", lambda: plada.read_payload(evil, home=material.home)
    yield (
        "pickle: changes",
        lambda: plada.apply_diff(material.file("old.plada"), evil, out=work / "a", home=material.home),
    )
    yield "pickle: pack", lambda: read_pack(evil)
    yield "pickle: image", lambda: decode(raw)
    yield (
        "pickle: reference of parquet",
        lambda: plada.open_images(_written(work / "p" / "x.parquet", raw), home=material.home),
    )
    yield (
        "pickle: reference of tars",
        lambda: plada.open_images(_written(work / "t" / "x.tar", raw), home=material.home),
    )
    for number, data in enumerate((raw, seal(raw), _zip(work, mark), seal(_zip(work, mark)))):
        yield f"pickle: checkpoint {number}", lambda d=data: read_checkpoint(_written(work / "check", d))
    np.save(work / "t.npy", array, allow_pickle=True)
    for path in (work / "t.npy", _written(work / "raw.npy", raw)):
        yield (
            f"pickle: logits {path.name}",
            lambda p=path: table_teacher(p, ("a",), images=1, keys=lambda: ["k"], claims={}),
        )
    images = np.zeros((1, 28, 28), np.uint8)
    medical = work / "medical"
    medical.mkdir()
    np.savez(
        medical / "bloodmnist.npz", train_images=images, val_images=images, test_images=images, train_labels=array,
        val_labels=array, test_labels=array,
    )  # fmt: skip
    yield "pickle: target of npz", lambda: open_target(medical, material.home)
    cifar = work / "cifar-10-batches-py"
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        _written(cifar / name, raw)
    yield "pickle: target of CIFAR", lambda: open_target(cifar, material.home)
    np.savez(work / "c.npz", digest=np.array("d"), vectors=array, readable=[True])
    for data in (raw, (work / "c.npz").read_bytes(), seal((work / "c.npz").read_bytes())):
        yield (
            "pickle: embeddings",
            lambda d=data: _none(load_embeddings(_written(work / "e.npz", d), "d", images=1, dimension=1)),
        )
    yield "pickle: listing", lambda: _none(load_listing(_listing(work, raw), lambda _: True))


def _zip(work: Path, mark: Path) -> bytes:
    import torch

    torch.save({"plada": 1, "run": Planted(mark)}, work / "zip.pth")
    return (work / "zip.pth").read_bytes()


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)
    return path


def _none(value: Any) -> None:
    """A cache that is not believed is made again."""
    if value is not None:
        raise NotRefused("was believed")
    raise _Shown


def _listing(work: Path, raw: bytes) -> Path:
    import pyarrow as pa

    folder, digests = work / "listing", dict[str, str]()
    for name in ("size", "part", "offset"):
        path = _written(folder / f"{name}.npy", raw)
        digests[path.name] = tree(path)[""]
    with (
        pa.OSFile(str(folder / "keys.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, pa.schema({"key": pa.string()})) as out,
    ):
        out.write_table(pa.table({"key": pa.array(["a"])}))
    digests["keys.arrow"] = tree(folder / "keys.arrow")[""]
    note = {"format": 2, "images": 1, "parts": [], "digests": digests}
    (folder / "listing.json").write_text(json.dumps(sealed_json(note)))
    return folder


def _index_of(material: Material, work: Path, arguments: dict[str, Any]) -> None:
    """Search with an index whose index.json, checksum and all, names arguments of a network."""
    info = json.loads((material.index / "index.json").read_text())
    encoder = {**info["encoder"], "name": f"timm:{NETWORK}.random", "tag": "random", "model_args": arguments}
    folder = work / "index"
    path = _written(folder / "index.json", b"")
    path.write_text(json.dumps(sealed_json({**info, "encoder": {**encoder, "mean": [0.5] * 3, "std": [0.5] * 3}})))
    plada.open_index(folder, home=material.home).encoder()


def _paths(material: Material, work: Path) -> Iterator[tuple[str, Case]]:
    old = plada.read_payload(material.file("old.plada"), home=material.home)
    for number, name in enumerate(ESCAPES):
        with suppress(PladaError):  # one that no payload can have is refused at its making
            named = replace(old, classes=(name, "other"))
            out = work / f"out{number}"
            yield (
                f"path: class {name!r}",
                lambda p=named, o=out: plada.export(
                    p, to="folder", out=o, reference=material.pictures, home=material.home
                ),
            )
        yield (
            f"path: index {name!r}",
            lambda n=name: plada.index(material.pictures, name=n, encoder="gradients", home=work / "h" / "h"),
        )
        for kind in ("tar", "parquet"):
            into = work / f"{kind}{number}"
            yield f"path: key of a {kind} {name!r}", lambda n=name, i=into, k=kind: _export_key(material, i, n, k)
    for member in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        yield (
            f"path: member of kind {member!r}",
            lambda k=member: plada.open_images(_tar(work / "links" / "x.tar", "a.png", kind=k), home=work / "h"),
        )
    with suppress(OSError):
        loop = work / "loop"
        loop.mkdir()
        (loop / "again").symlink_to(loop)
        yield "path: a link to the folder above", lambda: plada.open_images(loop, home=work / "h")
    yield "path: a payload by file URL of a folder", lambda: plada.read_payload(f"file://{work}", home=material.home)


def _tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    """A tar whose only member has this name, and a picture in it, or leads to /etc/passwd."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        if kind == tarfile.REGTYPE:
            member.size = len(buffer.getvalue())
            tar.addfile(member, io.BytesIO(buffer.getvalue()))
        else:
            member.linkname = "/etc/passwd"
            tar.addfile(member)
    return path


def _parquet(path: Path, name: str) -> Path:
    """A table of one picture under a key."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table({"key": [name], "image": [decode_to_png(3)]}), path)
    return path


def _export_key(material: Material, folder: Path, name: str, kind: str) -> None:
    """Label the picture of a hostile name and export it: whatever its key, it lands in the folder that was named."""
    make = _tar if kind == "tar" else _parquet
    root = make(folder / "in" / f"x.{kind}", f"{name}.png").parent
    reference = plada.open_images(root, home=material.home)
    manifest = reference.manifest
    payload = plada.Payload(np.arange(1), np.zeros(1, np.int64), ("a",), 1, manifest.key_id, manifest.content_id)
    for form in ("folder", "webdataset", "hf"):
        plada.export(payload, to=form, out=folder / "in" / f"out-{form}", reference=root, home=material.home)
    if {path.name for path in folder.iterdir()} != {"in"}:
        raise NotRefused("an export wrote beside its folder")
    raise _Shown


def _bombs(material: Material, work: Path) -> Iterator[tuple[str, Case]]:
    ids = (bytes(8), bytes(8))
    for name, data in {
        "2^24 labels in 82 bytes": write_container(Header(1 << 24, 2, *ids), {LABELS: b"\3" + b"\xff" * 40}),
        "2^28 images": write_container(Header(1 << 28, 2, *ids), {LABELS: b"\x80\x80\x80\x40" + bytes(30)}),
        "65 535 classes": write_container(Header(100, 65_535, *ids), {LABELS: b"\1" + bytes(30)}),
        "classes of 2^60": write_container(Header(1 << 60, 1 << 60, *ids), {LABELS: bytes(8)}),
        "a plan of 2^40 segments": write_container(Header(100, 2, *ids), {PLAN: b"\0\xff\xff\xff\xff\xff\x1f"}),
        "names that inflate to a gigabyte": write_container(Header(100, 2, *ids), {0x81: b"\3" + _deflated(1 << 30), LABELS: b"\1"}),
        "notes as deep as JSON goes": write_container(Header(100, 2, *ids), {0x81: b"\4" + b'{"a":' * 50_000, LABELS: b"\1"}),
        "a number of 10 000 digits": write_container(Header(100, 2, *ids), {0x81: b'\4{"recipe":{"epochs":' + b"9" * 10_000 + b"}}", LABELS: b"\1"}),
        "a header without end": b"\x89PLD\2\0" + b"\xff" * 100,
    }.items():  # fmt: skip
        yield f"bomb: payload, {name}", lambda d=data: parse_payload(d)
        yield f"bomb: inspect, {name}", lambda d=data: plada.inspect(_written(work / "b.plada", d), home=material.home)
    old = plada.read_payload(material.file("old.plada"), home=material.home)
    for option, value in {
        "epochs": 10**9, "batch_size": 10**7, "learning_rate": 10**400, "image_size": 10**6, "supersample": 10**6, "rotate": 10**400,
    }.items():  # fmt: skip
        sent = replace(old, notes={"recipe": {option: value}})
        yield (
            f"bomb: recipe {option}",
            lambda p=sent: plada.train(p, reference=material.pictures, student="small_cnn", home=material.home),
        )
    soft = replace(old, classes=tuple(map(str, range(65_535))), notes={"soft_labels": {"shares": [[0, 255]] * 65_535}})
    yield (
        "bomb: soft labels of 65 535 classes",
        lambda: plada.train(soft, reference=material.pictures, student="linear", home=material.home),
    )
    for name, data in {
        "60 000 x 60 000 pixels": _png(60_000, 60_000),
        "a comment of a gigabyte": _png(8, 8, comment=1 << 30),
    }.items():
        yield f"bomb: picture, {name}", lambda d=data: _decoded(d)
    header = (
        b"\x93NUMPY\1\0"
        + struct.pack("<H", 118)
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2), }".ljust(117)
        + b"\n"
    )
    yield (
        "bomb: logits of 10^12 rows",
        lambda: table_teacher(_written(work / "n.npy", header), ("a", "b"), images=10**12, keys=list, claims={}),
    )
    yield (
        "bomb: a card of 2^60 bytes",
        lambda: read_card(_written(work / "s.safetensors", b"\xff" * 7 + b"\x0f" + b"{}")),
    )
    deep = b'{"a":' * 100_000
    yield (
        "bomb: index.json as deep as JSON goes",
        lambda: Store(_written(work / "deep" / "index.json", deep).parent).info(),
    )
    yield "bomb: a pack of 2^60 rows", lambda: read_pack(_written(work / "k.pack", b"\x89PLP\1" + b"\xff" * 200))
    for name, answer in _answers(material.file("old.plada").read_bytes()).items():
        yield f"bomb: server, {name}", lambda a=answer: _from_server(a, material)


def _deflated(size: int) -> bytes:
    from plada.payload.metadata import DICTIONARY

    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=DICTIONARY)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def _png(width: int, height: int, comment: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(1 << 20)) for _ in range(comment >> 20)) + packer.flush()
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [chunk(b"zTXt", b"Comment\0\0" + text)] if comment else []
    chunks += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(3 * 8) for _ in range(8)))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _decoded(data: bytes) -> None:
    """A picture that is small once its comment is passed over may be decoded."""
    if decode(data).size == (8, 8):
        raise _Shown


def _answers(whole: bytes) -> dict[str, Callable[[BaseHTTPRequestHandler], None]]:
    ok = b"HTTP/1.0 200 OK\r\n\r\n"

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(ok)
        while True:
            handler.wfile.write(bytes(1 << 16))

    def more(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(ok + whole)
        while True:
            handler.wfile.write(bytes(1 << 16))

    def claims(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(
            b"HTTP/1.0 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + whole[:6] + b"\xff\xff\xff\xff\3" + whole[7:]
        )

    def lines(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while True:
            handler.wfile.write(b"X: " + b"y" * 1000 + b"\r\n")

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n")

    return {
        "an endless answer": endless,
        "bytes behind the payload": more,
        "a claim of 100 GB": claims,
        "endless headers": lines,
        "a redirect to a file": elsewhere,
    }


@contextmanager
def _serve(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the client has gone
                answer(self)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads, listening.block_on_close = True, False
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/x.plada"
        listening.shutdown()


def _from_server(answer: Callable[[BaseHTTPRequestHandler], None], material: Material) -> None:
    with _serve(answer) as url:
        plada.read_payload(url, home=material.home)


def _run(words: list[Any]) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def _fails(words: list[Any]) -> None:
    """A command line that must be refused."""
    result = _run(words)
    if not isinstance(result.exception, SystemExit):
        raise NotRefused(f"status {result.exit_code}, {result.exception!r:.150}")
    raise _Shown


def _harmless(words: list[Any]) -> None:
    """Whatever it ends with, what a command prints does nothing to a terminal, and no line of it is the stranger's own."""
    result = _run(words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise NotRefused(repr(result.exception)[:150])
    shown = result.stdout + result.stderr
    if any(letter in shown for letter in ACTING) or "plada: all is well" in shown.splitlines():
        raise NotRefused(f"{words[0]} shows it as it is")
    raise _Shown


def _names(material: Material, work: Path) -> Iterator[tuple[str, Case]]:
    where = ["--home", material.home]
    old = plada.read_payload(material.file("old.plada"), home=material.home)
    sent = work / "n[/b].plada"
    nasty = replace(old, classes=(NASTY, "=HYPERLINK(1)"), notes={"target": NASTY})
    plada.write_payload(nasty, sent, home=material.home)
    reference = ["--reference", material.pictures]
    model = _model(work / "n.safetensors", classes=[NASTY, "b"])
    folder, picture = work / "named", next(material.pictures.rglob("*.png"))
    with suppress(OSError):  # not every file system takes such a name
        _written(folder / (NASTY.replace("/", "") + ".png"), picture.read_bytes())
        for number in range(24):
            _written(folder / f"{number}.png", decode_to_png(number))
        yield (
            "name: index of files",
            lambda: _harmless(["index", folder, "--name", "n", "--encoder", "gradients", *where]),
        )
        yield "name: search among files", lambda: _harmless(["search", picture, "--index", "n", *where])
        yield "name: verify files", lambda: _harmless(["verify", folder, *where])
    yield "name: inspect", lambda: _harmless(["inspect", sent, *where])
    yield "name: inspect --json", lambda: _harmless(["inspect", sent, "--json", *where])
    yield (
        "name: train",
        lambda: _harmless(["train", sent, *reference, "--student", "linear", "-o", work / "l.safetensors", *where]),
    )
    yield "name: predict", lambda: _harmless(["predict", picture, "--model", model])
    yield "name: evaluate", lambda: _harmless(["evaluate", model, "--target", material.target, *where])
    yield "name: export", lambda: _harmless(["export", sent, "--to", "csv", "-o", work / "n.csv", *reference, *where])
    yield "name: cells of a spreadsheet", lambda: _cells(work / "n.csv")
    yield "name: report", lambda: _harmless(["report", sent, *reference, "-o", work / "n.html", *where])
    yield "name: report's page", lambda: _page(work / "n.html")
    yield "name: diff", lambda: _harmless(["diff", material.file("old.plada"), sent, "-o", work / "n.diff", *where])
    for command in ("inspect", "train", "index", "report", "verify", "evaluate"):
        yield (
            f"name: error of {command}",
            lambda c=command: _harmless([c, f"nothing{NASTY}", *(["--target", "x"] if c == "evaluate" else [])]),
        )

    def reason(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 404 \x1b]0;owned\x07 \x9b2J\r\n\r\n")

    def fetched() -> None:
        with _serve(reason) as url:
            _harmless(["inspect", url])

    yield "name: a server's reason", fetched


def decode_to_png(number: int) -> bytes:
    """A picture of one colour of its own."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (number * 9, 255 - number * 9, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def _cells(path: Path) -> None:
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        if any(
            cell[:1] in tuple("=+-@") and not cell.lstrip("-").isdigit()
            for row in csv.reader(file)
            for cell in row
            if cell
        ):
            raise NotRefused("a cell begins a formula")
    raise _Shown


def _page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if any(letter in text for letter in ACTING) or "evil[bold]" not in text:
        raise NotRefused("the page holds it as it is, or not at all")
    raise _Shown
