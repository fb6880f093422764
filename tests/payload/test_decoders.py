"""The decoder of decoders/plada_decode.py, written from the documents alone, says what plada says.

It reads every golden file, good and bad, and random contents under every coder, whole, in segments and as changes.
"""

import csv
import hashlib
import importlib.util
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from plada.errors import PayloadCorrupt
from plada.payload.coders.body import read_content
from plada.payload.container import LABELS, Header, Signer, write_container
from plada.payload.diff import write_changes
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext
from tests.payload.payloads import made

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
CODERS = ("gaps-zstd", "bitmap-zstd", "blocks", "even-blocks", "pack", "pack-even")
GOOD = sorted(path.stem for path in GOLDEN.glob("*.plada"))
BAD: dict[str, str] = json.loads((GOLDEN / "bad" / "bad.json").read_text())
# Under a pack plain Python is slow: 700 classes take it minutes. The decoder in C reads these.
SLOW = {"v2-pack-many", "v2-pack-even-many", "v2-pack-all", "v2-pack-even-all"}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plada_decode", ROOT / "decoders" / "plada_decode.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plada_decode"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


D: Any = load()


def rows(features: np.ndarray) -> Callable[[int], Any]:
    view, d = memoryview(features.astype(np.int8).tobytes()).cast("b"), features.shape[1]
    return lambda image: view[image * d : image * d + d]


def decoders_context(shared: SharedContext) -> Any:
    """The decoder's own form of a shared context."""
    bounds = None if shared.blocks is None else shared.blocks.tolist()
    if shared.features is None:
        return D.Shared(bounds)
    return D.Shared(bounds, shared.features.shape[1], rows(shared.features), shared.pack_id)


def golden_context() -> SharedContext:
    given = json.loads((GOLDEN / "reference.json").read_text())
    features = np.frombuffer((GOLDEN / given["features"]).read_bytes(), np.int8).reshape(-1, given["dimensions"])
    return SharedContext(blocks=np.array(given["blocks"]), features=features, pack_id=bytes.fromhex(given["pack_id"]))


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return expected(found["same_as"]) if "same_as" in found else found


@pytest.mark.parametrize("name", [name for name in GOOD if name not in SLOW])
def test_golden_files_say_the_same(name: str) -> None:
    want, shared = expected(name), decoders_context(golden_context())
    old = D.decode((GOLDEN / f"{want['old']}.plada").read_bytes(), shared) if "old" in want else None
    got = D.decode((GOLDEN / f"{name}.plada").read_bytes(), shared, old=old)
    assert [position for position, _ in got.pairs] == want["positions"]
    assert [label for _, label in got.pairs] == want["labels"]
    assert got.names == want["classes"]
    assert got.digest().hex() == want["digest"]
    assert got.notes == want["notes"]
    assert (got.header.serial, got.header.images) == (want["serial"], want["images"])


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_golden_files_are_refused(name: str) -> None:
    with pytest.raises(D.Refused) as caught:
        D.decode((GOLDEN / "bad" / name).read_bytes())
    assert caught.value.kind == BAD[name]


def test_the_vectors_of_the_coders_document() -> None:
    text = (ROOT / "docs" / "payload-coders.md").read_text().split("## 7. Test vectors")[1]
    bodies = [bytes.fromhex("".join(lines.split())) for lines in re.findall(r"\n\n((?:    [0-9a-f]+\n)+)", text)]
    small = D.read_content(bodies[0], D.Reference(20, 2, [0, 5, 20]))
    assert small == [(3, 0), (4, 1), (9, 0)]
    pairs = [(i, i // 97 * 7 % 6) for i in range(3000) if i * i % 911 * 37 % 101 < 4]
    features = [[factor * i % 255 - 127 for factor in (37, 101, 59)] for i in range(3000)]
    for i, label in pairs:
        features[i] = [(z >> 2) + 20 * (label - 3) for z in features[i]]
    reference = D.Reference(3000, 6, [*range(0, 3000, 130), 3000], True, 3, features.__getitem__)
    assert [body[0] for body in bodies[1:]] == [3, 4, 5, 6]
    for body in bodies[1:]:
        check = struct.pack("<I", zlib.crc32(D.pair_bytes(pairs))) if body[0] in (4, 6) else b""
        assert D.read_content(body + check, reference) == pairs


def drawn(seed: int) -> tuple[Payload, SharedContext]:
    """A payload of a reference with blocks and features that say something about it; the sizes are the awkward ones."""
    rng = np.random.default_rng(seed)
    images, classes, d = (int(rng.choice(v)) for v in ((1, 2, 7, 255, 256, 257, 600), (1, 2, 3, 17, 300), (1, 2, 5)))
    images = min(images, 40) if classes == 300 else images  # plain Python is slow
    kept = int(rng.choice([0, 1, images // 9, images // 2, images]))
    blocks = int(rng.integers(1, min(images, 40) + 1))
    inner: Any = np.sort(rng.choice(np.arange(1, images), blocks - 1, replace=False)) if blocks > 1 else []
    bounds = np.array([0, *inner, images], np.int64)
    of_image = np.repeat(rng.integers(0, classes, blocks), np.diff(bounds))
    features = np.clip(rng.normal(size=(images, d)) * 20 + (of_image[:, None] % 3) * 30, -127, 127).astype(np.int8)
    order = np.argsort(-features[:, 0] - 30 * rng.random(images), kind="stable")
    positions = np.sort(order[:kept])
    labels = np.where(rng.random(kept) < 0.8, of_image[positions], rng.integers(0, classes, kept))
    names = tuple(f"class {i}" for i in range(classes))
    notes = {"target": "crème"} if seed % 2 else {}
    payload = Payload(
        positions, labels, names, images, b"k" * 8, b"c" * 8, notes, serial=seed % 3, rank=np.arange(kept)
    )
    return payload, SharedContext(blocks=bounds, features=features, pack_id=bytes(range(16)))


def agree(payload: Payload, got: Any) -> None:
    assert got.pairs == list(zip(payload.positions.tolist(), payload.labels.tolist(), strict=True))
    assert got.names == list(payload.classes)
    assert got.notes == payload.notes
    assert got.digest() == payload.digest()


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("seed", range(8))
def test_random_contents_say_the_same(coder: str, seed: int) -> None:
    payload, shared = drawn(seed)
    agree(payload, D.decode(payload.encode(coder, shared=shared), decoders_context(shared)))


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("progressive", ["blocks", "layers"])
@pytest.mark.parametrize("seed", [0, 5, 7])
def test_segments_say_the_same(coder: str, progressive: str, seed: int) -> None:
    payload, shared = drawn(seed)
    data = payload.encode(coder, shared=shared, progressive=progressive)
    got = D.decode(data, decoders_context(shared))
    agree(payload, got)
    assert got.segments[0] == got.segments[1]


def test_long_folders_are_cut_before_they_are_dealt_to_segments() -> None:
    payload, bounds = made(900, 9000, seed=3), np.array([0, 5000, 9000])
    data = payload.encode("blocks", shared=SharedContext(bounds), progressive="blocks", segments=4)
    agree(payload, D.decode(data, D.Shared(bounds.tolist())))
    with pytest.raises(D.Refused, match="missing"):
        D.decode(data)


def test_even_segments_need_no_blocks() -> None:
    payload, _ = drawn(7)
    data = payload.encode("gaps-zstd", progressive="blocks", segments=2 if payload.reference > 256 else 1)
    agree(payload, D.decode(data))


def test_long_runs_are_cut_in_blocks_and_in_changes() -> None:
    rng = np.random.default_rng(1)
    shared = SharedContext(blocks=np.array([0, 2048, 4096, 5000, 7048, 9000]))
    positions = np.sort(rng.choice(9000, 6000, replace=False))
    labels = np.where(rng.random(6000) < 0.9, 1, rng.integers(0, 3, 6000))
    old = Payload(positions, labels, ("a", "b", "c"), 9000, b"k" * 8, b"c" * 8)
    stays = rng.random(6000) < 0.95
    new = Payload(positions[stays], labels[stays], ("a", "b", "c"), 9000, b"k" * 8, b"c" * 8, {"target": "x"})
    uncut = D.Shared([0, 5000, 9000])  # the decoder cuts the same
    got = D.decode(old.encode("blocks", shared=shared), uncut)
    agree(old, got)
    agree(new, D.decode(write_changes(old, new, shared=shared), uncut, old=got))


@pytest.mark.parametrize("seed", range(8))
def test_changes_say_the_same(seed: int) -> None:
    old, shared = drawn(seed)
    rng = np.random.default_rng(100 + seed)
    count = len(old.classes)
    kept = rng.random(len(old.positions)) < 0.9
    free = np.setdiff1d(np.arange(old.reference), old.positions)
    added = np.sort(rng.choice(free, min(len(free), 9), replace=False))
    positions = np.concatenate([old.positions[kept], added]).astype(np.int64)
    labels = np.concatenate([old.labels[kept] + 1, rng.integers(0, count + 1, len(added))]).astype(np.int64)
    order = np.argsort(positions)
    names = ("a new one", *old.classes)
    notes = {"target": "menu 2"} if seed % 3 else {}
    new = Payload(positions[order], labels[order], names, old.reference, old.key_id, old.content_id, notes, serial=9)
    other = decoders_context(shared)
    before = D.decode(old.encode("gaps-zstd"), other)
    data = write_changes(old, new, shared=shared)
    got = D.decode(data, other, old=before)
    agree(new, got)
    with pytest.raises(D.Refused) as caught:
        D.decode(data, other, old=got if got.digest() != before.digest() else None)
    assert caught.value.kind == "reference"


def test_partial_takes_what_is_whole() -> None:
    payload, shared = drawn(7)
    other = decoders_context(shared)
    data = payload.encode("blocks", shared=shared, progressive="blocks", segments=4)
    everything = dict(D.decode(data, other).pairs)
    seen = set()
    for length in range(len(data)):
        try:
            got = D.decode(data[:length], other, partial=True)
        except D.Refused as error:
            assert error.kind == "truncated"
            continue
        assert dict(got.pairs).items() <= everything.items()
        seen.add(got.segments[0])
        with pytest.raises(D.Refused):
            D.decode(data[:length], other)
    assert seen == {0, 1, 2, 3}
    damaged = bytearray(data)
    damaged[-1] ^= 1
    assert D.decode(bytes(damaged), other, partial=True).segments == (3, 4)


def test_every_flipped_bit_is_refused() -> None:
    data = (GOLDEN / "v2-single-class.plada").read_bytes()
    for at in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(D.Refused):
            D.decode(bytes(damaged))


def test_what_is_missing_is_said() -> None:
    payload, shared = drawn(7)
    for coder, given in (
        ("blocks", D.Shared()),
        ("pack", D.Shared(shared.blocks.tolist() if shared.blocks is not None else None)),
    ):
        with pytest.raises(D.Refused) as caught:
            D.decode(payload.encode(coder, shared=shared), given)
        assert caught.value.kind == "missing"
    damaged = D.Shared(decoders_context(shared).bounds, 5, lambda image: [0] * 5, shared.pack_id)
    with pytest.raises(D.Refused) as caught:
        D.decode(payload.encode("pack", shared=shared), damaged)
    assert caught.value.kind == "corrupt"


def test_declared_sizes_are_bounded_by_what_is_there() -> None:
    """payload-format.md, section 10: few bytes could otherwise claim work and output without end."""
    for coder in range(1, 7):
        body = bytes([coder]) + D.varint_bytes(65536 + 256 * 14 + 1) + bytes(10)
        assert len(body) == 14
        shared = SharedContext(np.array([0, 1 << 20]))
        reference = D.Reference(1 << 20, 2, [0, 1 << 20], True, 1, lambda image: [0])
        with pytest.raises(D.Refused, match="the number of images named"):
            D.read_content(body, reference)
        with pytest.raises(PayloadCorrupt, match="a body of 14 bytes claims 69121 images; expected at most 69120"):
            read_content(body, images=1 << 20, classes=2, shared=shared)
    names = D.read_about(b"\2" + b"a" * 1024 + b"\0b", 2)[0]
    assert names is not None and len(names[0]) == 1024
    with pytest.raises(D.Refused, match="a class name of more than 1024 letters"):
        D.read_about(b"\2" + b"a" * 1025 + b"\0b", 2)


def test_a_signature_is_verified() -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = private.public_key().public_bytes_raw()
    payload, _ = drawn(7)
    data = payload.encode("even-blocks", signer=Signer(hashlib.sha256(public).digest()[:4], private.sign))
    got = D.decode(data)
    agree(payload, got)
    D.check_signature(data, got, public)
    for wrong, key in ((data, bytes(32)), (data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], public)):
        with pytest.raises(D.Refused) as caught:
            D.check_signature(wrong, D.replace(got, signature=wrong[-73:-4]), key)
        assert caught.value.kind == "signature"
    with pytest.raises(D.Refused):
        D.check_signature(data, D.decode(payload.encode("even-blocks")), public)


def test_the_command_line_with_keys_and_a_pack(tmp_path: Path) -> None:
    blake3 = pytest.importorskip("blake3").blake3
    keys = sorted(f"folder {i % 3}/{i}" for i in range(60))
    lines = [key.encode() for key in keys]
    lengths = struct.pack("<60I", *map(len, lines))
    key_id = blake3(b"plada key id 1\0" + struct.pack("<Q", 60) + lengths + b"".join(lines)).digest()[:16]
    features = np.arange(120).reshape(60, 2).astype(np.int8)
    head = b"\x89PLP" + struct.pack("<BBHIHH", 1, 1, 64, 60, 2, 32) + key_id
    pack_id = hashlib.sha256(head + features.tobytes()).digest()[:16]
    head += pack_id + bytes(12)
    (tmp_path / "p.pack").write_bytes(head + struct.pack("<I", zlib.crc32(head)) + features.tobytes())
    (tmp_path / "keys.txt").write_text("".join(key + "\n" for key in reversed(keys)))
    shared = SharedContext(blocks=np.array([0, 20, 40, 60]), features=features, pack_id=pack_id)
    payload = Payload(np.array([1, 25, 59]), np.array([1, 0, 1]), ("a", "b, c"), 60, key_id[:8], b"c" * 8)
    (tmp_path / "x.plada").write_bytes(payload.encode("pack", shared=shared))
    command = [sys.executable, str(ROOT / "decoders" / "plada_decode.py"), str(tmp_path / "x.plada")]
    done = subprocess.run(
        [*command, "--keys", str(tmp_path / "keys.txt"), "--pack", str(tmp_path / "p.pack")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["position", "label", "class"],
        ["1", "1", "b, c"],
        ["25", "0", "a"],
        ["59", "1", "b, c"],
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "missing" in done.stderr and not done.stdout
    (tmp_path / "keys.txt").write_text("".join(key + "x\n" for key in keys))
    done = subprocess.run([*command, "--keys", str(tmp_path / "keys.txt")], capture_output=True, text=True)
    assert done.returncode == 1 and "reference" in done.stderr


# ---- the decoder in C -----------------------------------------------------------------------------------------------

IN_C = [name for name in GOOD if "zstd" not in name and "changes" not in name]


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, str, str]]:
    """Runs the decoder in C, compiled with checks of addresses and undefined behaviour where the compiler has them."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc)")
    folder = tmp_path_factory.mktemp("c")
    program = folder / "plada_decode"
    command = [compiler, "-std=c99", "-O2", "-o", str(program), str(ROOT / "decoders" / "plada_decode.c")]
    checked = [*command, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if subprocess.run(checked, capture_output=True).returncode:
        subprocess.run(command, check=True, capture_output=True)

    def run(data: bytes, shared: SharedContext | None = None, *more: str) -> tuple[int, str, str]:
        (folder / "x.plada").write_bytes(data)
        if shared is not None and shared.blocks is not None:
            (folder / "blocks.json").write_text(json.dumps(shared.blocks.tolist()))
            more += ("--blocks", str(folder / "blocks.json"))
        if shared is not None and shared.features is not None:
            images, d = shared.features.shape
            key_id = D.read_header(data).key_id
            head = b"\x89PLP" + struct.pack("<BBHIHH", 1, 1, 64, images, d, 32) + key_id + bytes(8)
            head += shared.pack_id + bytes(12)
            (folder / "x.pack").write_bytes(head + struct.pack("<I", zlib.crc32(head)) + shared.features.tobytes())
            more += ("--pack", str(folder / "x.pack"))
        done = subprocess.run([str(program), str(folder / "x.plada"), *more], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


def lines(pairs: list[tuple[int, int]]) -> str:
    return "position,label\n" + "".join(f"{position},{label}\n" for position, label in pairs)


@pytest.mark.parametrize("name", IN_C)
def test_c_reads_golden_files(name: str, in_c: Callable[..., tuple[int, str, str]]) -> None:
    data, want = (GOLDEN / f"{name}.plada").read_bytes(), expected(name)
    code, out, error = in_c(data, golden_context())
    if "coders 1 and 2 need" in error:
        pytest.skip("made with a coder that needs Zstandard")
    assert (code, error.replace("signed, not verified\n", "")) == (0, "")
    assert out == lines(list(zip(want["positions"], want["labels"], strict=True)))


@pytest.mark.parametrize("name", sorted(BAD))
def test_c_refuses_bad_golden_files(name: str, in_c: Callable[..., tuple[int, str, str]]) -> None:
    code, out, error = in_c((GOLDEN / "bad" / name).read_bytes())
    assert code == 1 and not out and error.count("\n") == 1, error
    assert error.split(":")[0] in (BAD[name], "unsupported")  # what needs Zstandard is not looked into


@pytest.mark.parametrize("coder", CODERS[2:])
@pytest.mark.parametrize("seed", range(8))
def test_c_reads_random_contents(coder: str, seed: int, in_c: Callable[..., tuple[int, str, str]]) -> None:
    payload, shared = drawn(seed)
    want = lines(list(zip(payload.positions.tolist(), payload.labels.tolist(), strict=True)))
    assert in_c(payload.encode(coder, shared=shared), shared) == (0, want, "")
    for progressive in ("blocks", "layers"):
        data = payload.encode(coder, shared=shared, progressive=progressive)
        assert in_c(data, shared) == (0, want, "")
        other = decoders_context(shared)
        for cut in (len(data) // 2, len(data) - 1):
            try:
                got = lines(D.decode(data[:cut], other, partial=True).pairs)
            except D.Refused:
                assert in_c(data[:cut], shared, "--partial")[0] == 1
            else:
                assert in_c(data[:cut], shared, "--partial")[:2] == (0, got)


def test_c_bounds_what_is_declared(in_c: Callable[..., tuple[int, str, str]]) -> None:
    body = b"\5" + D.varint_bytes(65536 + 256 * 14 + 1) + bytes(10)
    data = write_container(Header(1 << 20, 2, bytes(8), bytes(8)), {LABELS: body})
    code, out, error = in_c(data)
    assert (code, out) == (1, "")
    assert "the number of images named" in error


def test_c_bears_lies_behind_right_checksums(in_c: Callable[..., tuple[int, str, str]]) -> None:
    payload, shared = drawn(7)
    rng = np.random.default_rng(0)
    assert shared.blocks is not None
    for coder in CODERS[2:]:
        data = payload.encode(coder, shared=shared)
        header = D.read_header(data)
        body = D.read_sections(data, header, False)[0][1]
        for _ in range(3 if "pack" in coder else 20):
            lie = bytearray(body)
            for at in rng.integers(0, len(lie), 3):
                lie[at] = rng.integers(0, 256)
            section = b"\x01" + D.varint_bytes(len(lie)) + lie
            raw, size = header.raw, 0
            while size != len(raw) + len(section) + 4:
                size = len(raw) + len(section) + 4
                old = len(D.varint_bytes(D.Cursor(header.raw, 6).varint()))
                raw = header.raw[:6] + D.varint_bytes(size) + header.raw[6 + old :]
            file = raw + section + struct.pack("<I", zlib.crc32(raw + section))
            code, out, error = in_c(file, shared)
            assert "Sanitizer" not in error and "runtime error" not in error, error
            try:
                want = lines(D.decode(file, decoders_context(shared)).pairs)
            except D.Refused as refused:
                assert code == 1 and error.split(":")[0] == refused.kind
            else:
                assert (code, out) == (0, want)
