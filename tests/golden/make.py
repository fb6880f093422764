"""Write the golden files that are not there yet: of each coder and form of the current version, good and bad.

python tests/golden/make.py [NAME ...]

Run it when a version is settled, for names or for all; a file that is there is never written again. Beside each good file
lies what it decodes to (docs/payload-format.md section 12).
"""

import json
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from plada.payload.coders.registry import CODERS
from plada.payload.container import (
    ABOUT,
    LABELS,
    PLAN,
    SIGNATURE,
    Header,
    Signer,
    read_container,
    write_container,
    write_plan,
)
from plada.payload.diff import write_changes
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext
from plada.payload.varints import varint

HERE = Path(__file__).parent
KEY, CONTENT, PACK = b"plada-ke", b"plada-co", b"plada-pack-id-16"
IMAGES = 5000
NAMES = ("apple", "bread", "cheese", "crème brûlée", "soup")
NOTES = {"target": "menu", "recipe": {"epochs": 10, "mirror": False}, "teacher_accuracy": 0.9125}
SEED = bytes(range(32))  # of the private key of the signed files

Good = tuple[bytes, Payload, dict[str, Any]]


def shared() -> SharedContext:
    """Blocks of 1 to some 120 images, and features that know a little of the labels."""
    rng = np.random.default_rng(20261125)
    cuts = np.unique(np.concatenate([[1, 2, 3], rng.integers(4, IMAGES, 70)]))
    blocks = np.concatenate([[0], cuts, [IMAGES]]).astype(np.int64)
    features = rng.normal(0, 32 / np.sqrt(1 + np.arange(8)), (IMAGES, 8)).round().clip(-127, 127).astype(np.int8)
    return SharedContext(blocks, features, PACK)


def menu(seed: int = 20261123, k: int = 400, **fields: Any) -> Payload:
    """Images that a teacher on the features would like, in bunches of blocks."""
    rng, known = np.random.default_rng(seed), shared()
    assert known.features is not None and known.blocks is not None
    head = rng.normal(0, 1, (8, len(NAMES)))
    logits = known.features @ head + rng.normal(0, 20, (IMAGES, len(NAMES)))
    block = np.searchsorted(known.blocks, np.arange(IMAGES), "right") - 1
    score = logits.max(axis=1) + rng.normal(0, 60, len(known.blocks))[block]
    positions = np.sort(np.argsort(-score, kind="stable")[:k])
    fields = {"notes": NOTES, "rank": np.argsort(np.argsort(-score[positions], kind="stable")), **fields}
    return Payload(positions, logits[positions].argmax(axis=1), NAMES, IMAGES, KEY, CONTENT, **fields)


def many() -> Payload:
    """700 classes, most of them empty."""
    rng = np.random.default_rng(1)
    positions = np.sort(rng.choice(IMAGES, 900, replace=False))
    names = tuple(f"class {number}" for number in range(700))
    return Payload(positions, rng.zipf(1.3, 900) % 700, names, IMAGES, KEY, CONTENT)


def signer() -> Signer:
    import hashlib

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(SEED)
    return Signer(hashlib.sha256(key.public_key().public_bytes_raw()).digest()[:4], key.sign)


def good() -> Iterator[tuple[str, Callable[[], Good]]]:
    """(name, what makes the file, the payload that it says, more for its JSON)."""
    known = shared()
    empty = np.zeros(0, np.int64)
    first = next(iter(CODERS))
    for coder in CODERS:
        for name, payload in (
            ("", menu()), ("-one", menu(k=1, notes={})), ("-all", menu(k=IMAGES)), ("-many", many()),
        ):  # fmt: skip
            same = {"same_as": f"v2-{first}{name}"} if coder != first else {}
            yield f"v2-{coder}{name}", lambda c=coder, p=payload, s=same: (p.encode(c, shared=known), p, s)  # type: ignore[misc]
    numbers = Payload(empty, empty, ("0", "1"), IMAGES, KEY, CONTENT)
    yield "v2-empty", lambda: (numbers.encode("gaps-zstd"), numbers, {})
    single = Payload(np.arange(0, IMAGES, 7), np.zeros(715, np.int64), ("only",), IMAGES, KEY, CONTENT, serial=77)
    yield "v2-single-class", lambda: (single.encode("gaps-zstd"), single, {})
    yield (
        "v2-signed",
        lambda: (menu(serial=3).encode("gaps-zstd", signer=signer()), menu(serial=3), {"key_seed": SEED.hex()}),
    )
    yield "v2-later-section", lambda: (later(), menu(), {})
    for form, coder, given in (
        ("even", "gaps-zstd", SharedContext()), ("blocks", "gaps-zstd", known), ("blocks", "auto", SharedContext(known.blocks)),
        ("blocks", "pack", known), ("layers", "gaps-zstd", SharedContext()), ("layers", "auto", SharedContext(known.blocks)),
    ):  # fmt: skip
        if coder in (*CODERS, "auto"):
            kind = "layers" if form == "layers" else "blocks"
            yield (
                f"v2-segments-{form}-{coder}",
                lambda k=kind, c=coder, g=given: (  # type: ignore[misc]
                    menu().encode(c, shared=g, progressive=k, segments=4),
                    menu(),
                    {},
                ),
            )
    old, new = menu(), renewed()
    for name, given in (("", SharedContext()), ("-blocks", SharedContext(known.blocks)), ("-pack", known)):
        yield f"v2-changes{name}", lambda g=given: (write_changes(old, new, shared=g), new, {"old": "v2-gaps-zstd"})  # type: ignore[misc]


def renewed() -> Payload:
    """menu() with images gone, changed and new, a class left out, one renamed, one added."""
    base, other = menu(), menu(seed=5)
    keep = (np.arange(400) % 9 > 0) & (base.labels != 2)
    fresh = np.setdiff1d(other.positions, base.positions)[:50]
    labels = np.array([0, 1, -1, 3, 4])[base.labels[keep]]
    labels[::23] = 2
    positions = np.concatenate([base.positions[keep], fresh])
    labels = np.concatenate([labels, np.arange(50) % 5])
    order = np.argsort(positions)
    names = ("apple", "bread", "dumpling", "custard", "soup")
    return Payload(positions[order], labels[order], names, IMAGES, KEY, CONTENT, {"target": "menu 2"}, serial=8)


def later() -> bytes:
    """A section that may be skipped."""
    found = read_container(menu().encode("gaps-zstd"))
    return write_container(found.header, {**found.sections, 0xF0: b"from the future"})


def bad() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """(name, what it is refused as, what makes it)."""
    whole = menu().encode("gaps-zstd", shared=SharedContext())
    found = read_container(whole)
    head = Header(IMAGES, 5, KEY, CONTENT)
    body, about = found.sections[LABELS], found.sections[ABOUT]
    parts = menu().encode("gaps-zstd", progressive="blocks", segments=4)
    bomb = b"\x00\x88" + b"\x02\x00\x10\x00" * 2000  # run-length blocks of 128 KiB each

    def sealed(*sections: tuple[int, bytes], of: Header = head) -> bytes:
        return write_container(of, dict(sections))

    files: dict[str, tuple[str, bytes]] = {
        "truncated": ("truncated", whole[:-1]),
        "truncated-header": ("truncated", whole[:20]),
        "truncated-segments": ("truncated", parts[:-9]),
        "trailing": ("corrupt", whole + b"\0"),
        "magic": ("corrupt", b"\x89PNG" + whole[4:]),
        "older": ("unsupported", whole[:4] + b"\1" + whole[5:]),
        "newer": ("unsupported", whole[:4] + b"\3" + whole[5:]),
        "flags": ("unsupported", whole[:5] + b"\x80" + whole[6:]),
        "flipped-label": ("corrupt", whole[:-30] + bytes([whole[-30] ^ 4]) + whole[-29:]),
        "flipped-header": ("corrupt", whole[:14] + bytes([whole[14] ^ 1]) + whole[15:]),
        "no-content": ("corrupt", sealed((ABOUT, about))),
        "second-content": ("corrupt", sealed((LABELS, body), (PLAN, write_plan(0, [])))),
        "about-last": ("corrupt", sealed((LABELS, body), (ABOUT, about))),
        "unknown-section": ("unsupported", sealed((0x10, b""), (LABELS, body))),
        "unknown-coder": ("unsupported", sealed((LABELS, b"\xc8" + body[1:]))),
        "unknown-signature": ("unsupported", sealed((LABELS, body), (SIGNATURE, b"\2" + bytes(68)))),
        "unknown-plan": ("unsupported", write_container(head, {PLAN: write_plan(9, [1])}, [b"x"])),
        "label-too-large": ("corrupt", sealed((LABELS, body), of=Header(IMAGES, 3, KEY, CONTENT))),
        "position-too-large": ("corrupt", sealed((LABELS, body), of=Header(2000, 5, KEY, CONTENT))),
        "more-images-than-there-are": ("corrupt", sealed((LABELS, b"\1" + varint(IMAGES + 1) + body[3:]))),
        "bomb": ("corrupt", sealed((LABELS, b"\1" + varint(400) + varint(len(bomb)) + bomb))),
        "names-alike": ("corrupt", sealed((ABOUT, b"\2a\0b\0c\0d\0a"), (LABELS, body))),
        "names-too-few": ("corrupt", sealed((ABOUT, b"\2a\0b\0c"), (LABELS, body))),
        "notes-not-json": ("corrupt", sealed((ABOUT, b"\4{"), (LABELS, body))),
        "section-of-4-gb": ("corrupt", _claim(head, varint((4 << 30) - 1))),
        "number-of-60-bits": ("corrupt", _claim(head, b"\xff" * 8 + b"\x0f")),
        "plan-too-long": ("corrupt", write_container(head, {PLAN: write_plan(0, [1 << 30])})),
        "segments-overlap": ("corrupt", _twice(head)),
    }  # fmt: skip
    for name, (kind, data) in files.items():
        yield f"v2-{name}", kind, lambda d=data: d  # type: ignore[misc]


def _claim(head: Header, length: bytes) -> bytes:
    """A file with a section of a length that is not there."""
    start = write_container(head, {LABELS: bytes(64)})
    at = start.index(b"\1\x40")
    data = start[: at + 1] + length + bytes(64)
    return data[: len(start)]


def _twice(head: Header) -> bytes:
    """Two layers with one image in common."""
    one = menu(k=1).encode("gaps-zstd")
    body = read_container(one).sections[LABELS]
    return write_container(head, {PLAN: write_plan(2, [len(body)] * 2)}, [body, body])


def described(payload: Payload, more: dict[str, Any]) -> dict[str, Any]:
    """What a good file decodes to, as JSON."""
    if "same_as" in more:
        return more
    return {
        "images": payload.reference, "classes": list(payload.classes), "positions": payload.positions.tolist(),
        "labels": payload.labels.tolist(), "notes": dict(payload.notes), "serial": payload.serial,
        "digest": payload.digest().hex(), **more,
    }  # fmt: skip


def main(names: list[str]) -> None:
    known = shared()
    assert known.features is not None and known.blocks is not None
    if not (HERE / "reference.json").exists():
        (HERE / "features.bin").write_bytes(known.features.tobytes())
        said = {"blocks": known.blocks.tolist(), "features": "features.bin", "dimensions": 8, "pack_id": PACK.hex()}
        (HERE / "reference.json").write_text(json.dumps(said) + "\n")
    for name, make in good():
        path = HERE / f"{name}.plada"
        if not path.exists() and (not names or name in names):
            data, payload, more = make()
            path.write_bytes(data)
            path.with_suffix(".json").write_text(
                json.dumps(described(payload, more), separators=(",", ":"), sort_keys=True) + "\n"
            )
            print(f"{name}: {len(data)} bytes, CRC-32 {zlib.crc32(data):08x}")
    (HERE / "bad").mkdir(exist_ok=True)
    index = HERE / "bad" / "bad.json"
    kinds = json.loads(index.read_text()) if index.exists() else {}
    for name, kind, produce in bad():
        path = HERE / "bad" / f"{name}.plada"
        if not path.exists() and (not names or name in names):
            path.write_bytes(produce())
            kinds[path.name] = kind
    index.write_text(json.dumps(kinds, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
