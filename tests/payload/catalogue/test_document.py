"""What a catalogue says: read back as it was written, refused where it cannot be, and as docs/catalogue-format.md says."""

import hashlib
import importlib.util
import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if importlib.util.find_spec("cryptography") is None:
    pytest.skip("cryptography is not installed (extra: sign)", allow_module_level=True)

from plada.errors import PayloadCorrupt, PayloadError, PayloadTruncated, PayloadUnsupported, SignatureError
from plada.payload.catalogue.document import (
    Catalogue,
    Change,
    Form,
    Key,
    PackFile,
    ReferenceEntry,
    StoredFile,
    Task,
    TaskHead,
    Version,
    canonical,
    is_name,
    read_catalogue,
    read_head,
    write_catalogue,
    write_head,
)  # fmt: skip
from plada.payload.catalogue.envelope import (
    DICTIONARY,
    MAX_TASK_FILE,
    MAX_TEXT,
    Envelope,
    keys_after,
    read_envelope,
    read_json_envelope,
    seal,
    succeed,
    write_envelope,
    write_json_envelope,
)  # fmt: skip
from plada.payload.signature import SigningKey

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "catalogue-format.md").read_text()
A, B, C = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100", "0123456789abcdef"


def signing_key(first: int) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes(range(first, first + 32)))
    return SigningKey(key.public_key().public_bytes_raw(), key.sign)


ONE, TWO, THREE = signing_key(0), signing_key(1), signing_key(2)

TASK = Task(
    version=2, content=A, key_id=C, reference="photos",
    forms=(Form(file=B, bytes=1000, needs="manifest", coder="blocks"), Form(file=A, bytes=900, needs="pack", pack=C, progressive=True)),
    changes=(
        Change(file="", bytes=3, old=C, needs="nothing", data=b"abc"), Change(file=A, bytes=99, old=C, needs="pack", pack=C),
    ),
    history=(
        Version(version=2, content=A, images=10, classes=3, bytes=900, serial=4, added=2, removed=1, relabelled=1, files=(A, B)),
        Version(version=1, content=B, images=9, classes=3, bytes=800, files=(B,)),
    ),
    about={"forecast": 0.8125, "licence": "CC BY", "target": "pets"},
)  # fmt: skip
WHOLE = Catalogue(
    name="shop", serial=7, expires=1_900_000_000, keys=(Key(key=ONE.public), succeed("shop", ONE, TWO.public)),
    references={
        "photos": ReferenceEntry(
            images=24, key_id=A, content_id=B, manifest=StoredFile(file=A, bytes=5, url="https://example.org/m"),
            packs=(PackFile(file=B, bytes=7, pack_id=A, dimensions=64),),
        ),
        "bare": ReferenceEntry(images=1, key_id=C, content_id=C),
    },
    tasks={"menu": TASK},
)  # fmt: skip


def blocks() -> list[str]:
    """Fenced blocks of the document, their lines joined."""
    return ["".join(found.splitlines()) for found in re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)]


def test_what_was_written_is_read() -> None:
    assert read_catalogue(json.loads(canonical(write_catalogue(WHOLE))), "x") == WHOLE
    head = WHOLE.head_of("menu")
    assert read_head(json.loads(canonical(write_head(head))), "x") == head
    assert (head.entry.history, head.entry.about, head.entry.forms[0].coder) == ((), {}, "")
    assert WHOLE.files() == {A, B}


def test_the_document() -> None:
    dictionary, example, text, *_ = blocks()
    assert dictionary.encode() == DICTIONARY
    assert f"these {len(DICTIONARY)} bytes" in TEXT
    assert hashlib.sha256(DICTIONARY).hexdigest() in TEXT
    envelope = read_envelope(bytes.fromhex(example), "x")
    envelope.check("x")
    assert (envelope.text, envelope.key) == (text.encode(), ONE.public)
    head = read_head(envelope.value("x"), "x")
    assert (head.name, head.task, head.serial, head.entry.changes[0].data) == ("shop", "menu", 7, b"abc")
    assert (MAX_TEXT, MAX_TASK_FILE) == (2**26, 2**20)
    written = {*write_catalogue(WHOLE), *write_catalogue(WHOLE)["tasks"]["menu"], *write_head(WHOLE.head_of("menu"))}
    assert [name for name in written if f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 0), (("format",), True), (("format",), "1"), (("format",), None),
        (("name",), "../x"), (("name",), 3), (("serial",), 0), (("serial",), 1 << 41), (("serial",), True), (("serial",), 1.0),
        (("expires",), -1), (("expires",), None), (("keys",), {}), (("keys",), [3]), (("keys",), [{"key": "00"}]),
        (("keys", 1, "signature"), "zz" * 64), (("tasks",), []), (("tasks",), {"a/b": {}}), (("tasks", "menu"), None),
        (("tasks", "menu", "version"), 0), (("tasks", "menu", "content"), "00"), (("tasks", "menu", "content"), A.upper()),
        (("tasks", "menu", "key_id"), None), (("tasks", "menu", "reference"), ".."), (("tasks", "menu", "forms"), []),
        (("tasks", "menu", "forms"), [{}] * 17), (("tasks", "menu", "forms", 0, "file"), "../../../../../../etc/passwd00000"),
        (("tasks", "menu", "forms", 0, "bytes"), 0), (("tasks", "menu", "forms", 0, "bytes"), 1 << 31),
        (("tasks", "menu", "forms", 0, "needs"), "gold"), (("tasks", "menu", "forms", 0, "needs"), "pack"),
        (("tasks", "menu", "forms", 0, "needs"), ["manifest"]), (("tasks", "menu", "forms", 1, "pack"), "0"),
        (("tasks", "menu", "forms", 0, "url"), "file:///etc/passwd"), (("tasks", "menu", "forms", 0, "coder"), 3),
        (("tasks", "menu", "forms", 0, "coder"), "x" * 201), (("tasks", "menu", "changes", 0, "data"), "!"),
        (("tasks", "menu", "changes", 0, "data"), 7), (("tasks", "menu", "changes", 0, "old"), "00"), (("tasks", "menu", "changes"), 3),
        (("tasks", "menu", "history", 0, "files"), ["x"]), (("tasks", "menu", "history", 0, "images"), -1),
        (("tasks", "menu", "history", 0, "classes"), 65_536), (("tasks", "menu", "about"), "pets"), (("tasks", "menu", "history"), []), (("tasks", "menu", "history", 0, "content"), B),
        (("references", "photos", "images"), 0), (("references", "photos", "content_id"), "0"), (("references", "photos", "manifest"), 3),
        (("references", "photos", "packs", 0, "dimensions"), 5000), (("references", "photos", "packs", 0, "pack_id"), C),
        (("references",), {"": {}}),
    ],
)  # fmt: skip
def test_members_that_cannot_be(path: tuple[Any, ...], value: Any) -> None:
    whole = json.loads(canonical(write_catalogue(WHOLE)))
    at = whole
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(PayloadCorrupt, match=r"^WHERE: .*[Aa]sk"):
        read_catalogue(whole, "WHERE")


def test_members_that_are_missing() -> None:
    head = json.loads(canonical(write_head(WHOLE.head_of("menu"))))
    for name in ("name", "serial", "expires", "version", "content", "key_id", "reference", "forms", "task"):
        with pytest.raises(PayloadCorrupt):
            read_head({key: value for key, value in head.items() if key != name}, "x")
    wrong: Any
    for wrong in (None, [], 3, "x"):
        with pytest.raises(PayloadCorrupt):
            read_head(wrong, "x")
        with pytest.raises(PayloadCorrupt):
            read_catalogue(wrong, "x")
    assert read_head({**head, "later": [1]}, "x").task == "menu"
    with pytest.raises(PayloadUnsupported, match="Install a newer plada"):
        read_head({**head, "format": 2}, "x")


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_refused_by_name(value: Any) -> None:
    head = json.loads(canonical(write_head(WHOLE.head_of("menu"))))
    for name in ("forms", "changes", "content", "version", "about"):
        with suppress(PayloadError):
            read_head({**head, name: value}, "x")


def test_an_envelope() -> None:
    envelope = seal(write_catalogue(WHOLE), TWO)
    data = write_envelope(envelope)
    assert read_envelope(data, "x") == read_json_envelope(write_json_envelope(envelope), "x") == envelope
    read_envelope(data, "x").check("x")
    assert write_envelope(seal(write_catalogue(WHOLE), TWO)) == data
    bare = seal(write_catalogue(WHOLE), None)
    assert read_envelope(write_envelope(bare), "x") == read_json_envelope(write_json_envelope(bare), "x") == bare
    bare.check("x")
    assert bare.value("x")["name"] == "shop"


def test_an_envelope_that_was_changed() -> None:
    data = write_envelope(seal(write_head(WHOLE.head_of("menu")), TWO))
    for cut in range(len(data)):
        with pytest.raises((PayloadTruncated, PayloadCorrupt)):
            read_envelope(data[:cut], "x")
    for at in range(len(data)):
        for bit in (1, 128):
            try:
                found = read_envelope(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :], "x")
                found.check("x")
            except PayloadError:
                continue
            assert (found, at) == (read_envelope(data, "x"), len(data) - 1)  # bits that fill the last byte
    with pytest.raises(PayloadUnsupported, match="version 2"):
        read_envelope(data[:4] + b"\2" + data[5:], "x")
    with pytest.raises(PayloadUnsupported):
        read_envelope(data[:5] + b"\3" + data[6:], "x")


def test_a_text_that_is_not_in_the_form() -> None:
    for text in (
        b'{"b":1,"a":2}',
        b'{"a": 2}',
        b"[]",
        b"3",
        b"",
        b"{",
        b"\xff",
        b'{"a":NaN}',
        b"[" * 100_000,
        b'{"a":"\xc3\xbc"}',
    ):
        with pytest.raises(PayloadCorrupt):
            Envelope(text).value("x")


def test_a_text_that_would_fill_the_memory() -> None:
    bomb = write_envelope(Envelope(b" " * (MAX_TEXT + 1)))
    assert len(bomb) < 100_000
    with pytest.raises(PayloadCorrupt, match=f"takes over {MAX_TEXT} bytes"):
        read_envelope(bomb, "x")


def test_successors() -> None:
    chain = (Key(key=ONE.public), succeed("shop", ONE, TWO.public), succeed("shop", TWO, THREE.public))
    assert keys_after("shop", chain, ONE.public, "x") == [TWO.public, THREE.public]
    assert keys_after("shop", chain, TWO.public, "x") == [THREE.public]
    assert keys_after("shop", chain, THREE.public, "x") == []
    with pytest.raises(SignatureError, match="whose successor it claims to be"):
        keys_after("another", chain, ONE.public, "x")  # the name is signed, too
    with pytest.raises(SignatureError, match="whose successor it claims to be"):
        keys_after(
            "shop", (chain[0], succeed("shop", ONE, TWO.public), succeed("shop", ONE, THREE.public)), ONE.public, "x"
        )
    with pytest.raises(SignatureError, match="nothing here says"):
        keys_after("shop", chain[1:], ONE.public, "x")
    with pytest.raises(SignatureError, match="of nobody"):
        keys_after("shop", (), ONE.public, "x")


def test_names() -> None:
    assert all(map(is_name, ("a", "A.b-c_1", "0", "a..b", "x" * 64)))
    assert not any(map(is_name, ("", ".", "..", ".a", "-a", "_a", "a/b", "a b", "x" * 65, "ü", "a\n", "a\0", None, 3)))


def test_a_head_is_small() -> None:
    """What an update costs beside its changes: signature and key 96, hashes 48, and the rest."""
    plain = replace(WHOLE.tasks["menu"], forms=WHOLE.tasks["menu"].forms[:1], changes=WHOLE.tasks["menu"].changes[:1])
    head: TaskHead = replace(WHOLE, tasks={"menu": plain}).head_of("menu")
    assert len(write_envelope(seal(write_head(head), TWO))) <= 240
