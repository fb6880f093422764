"""Changes: OLD and changes give NEW exactly; anything but OLD is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plada.errors import (
    PayloadCorrupt,
    PayloadError,
    PayloadTruncated,
    PayloadUnsupported,
    ReferenceMismatch,
    RequestError,
    SideMissing,
)
from plada.payload.container import ABOUT, DIFF, Header, Signer, read_container, write_container
from plada.payload.diff import ClassMapping, apply_changes, parse_changes, sort_by_class, write_changes
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import SharedContext
from tests.payload.payloads import CONTENT, KEY, folders, made, same

TEN = tuple("abcdefghij")
OLD = made(1000, 20_000, TEN)


def changed(
    old: Payload = OLD, *, gone: float = 0, relabelled: float = 0, added: int = 0, seed: int = 1, **fields: Any
) -> Payload:
    """`old` with random changes; `fields` replace others, `classes` may be longer."""
    rng = np.random.default_rng(seed)
    classes = fields.get("classes", old.classes)
    stays = rng.random(len(old)) >= gone
    positions, labels = old.positions[stays], old.labels[stays].copy()
    other = rng.random(len(labels)) < relabelled
    labels[other] = rng.integers(0, len(classes), int(other.sum()))
    new = np.setdiff1d(rng.choice(old.reference, min(added, old.reference), replace=False), old.positions)
    positions = np.concatenate([positions, new])
    labels = np.concatenate([labels, rng.integers(0, len(classes), len(new))])
    order = np.argsort(positions)
    return replace(old, positions=positions[order], labels=labels[order], **fields)


def bytes_of(old: Payload, new: Payload, shared: SharedContext | None = None) -> int:
    """Bytes of the changes, after checking that they do what they should."""
    shared = shared or SharedContext()
    data = write_changes(old, new, shared=shared)
    found = apply_changes(old, parse_changes(data), shared=shared)
    assert same(found, new)
    assert found.encode(shared=shared) == new.encode(shared=shared)
    return len(data)


def renamed(old: Payload, **names: str) -> Payload:
    return replace(old, classes=tuple(names.get(name, name) for name in old.classes))


def test_a_few_changes_are_a_fraction_of_the_payload() -> None:
    whole = len(OLD.encode())
    assert bytes_of(OLD, OLD) <= 70
    assert bytes_of(OLD, changed(gone=0.02)) < whole / 8
    assert bytes_of(OLD, changed(relabelled=0.02)) < whole / 8
    assert bytes_of(OLD, changed(added=20)) < whole / 8
    assert bytes_of(OLD, changed(gone=0.02, relabelled=0.02, added=20, serial=9, notes={"target": "x"})) < whole / 5


def test_a_class_renamed_added_or_left_out_costs_little() -> None:
    assert bytes_of(OLD, renamed(OLD, d="dog")) <= 80
    assert bytes_of(OLD, renamed(OLD, d="dog", g="goat")) <= 90
    more = replace(OLD, classes=("0", *TEN[:5], "elk", *TEN[5:]), labels=OLD.labels + 1 + (OLD.labels >= 5))
    assert bytes_of(OLD, more) <= 85  # every number changes, no name and no image does
    keep = OLD.labels != 4
    labels = OLD.labels[keep] - (OLD.labels[keep] > 4)
    less = replace(OLD, positions=OLD.positions[keep], labels=labels, classes=TEN[:4] + TEN[5:])
    assert bytes_of(OLD, less) <= 90
    merged = replace(OLD, labels=np.where(OLD.labels == 9, 8, OLD.labels), classes=TEN[:9])
    assert bytes_of(OLD, merged) <= 110


def test_classes_in_another_order() -> None:
    back = replace(OLD, classes=TEN[::-1], labels=9 - OLD.labels)
    assert bytes_of(OLD, back) <= 120
    assert bytes_of(OLD, replace(OLD, classes=(*TEN[1:], "a"), labels=(OLD.labels - 1) % 10)) <= 80


def test_numbered_classes_grow() -> None:
    old = made(200, 5000, tuple("012"), notes={})
    assert bytes_of(old, changed(old, added=10, classes=tuple("01234"))) < len(old.encode())


def test_from_and_to_nothing() -> None:
    empty = made(0, 20_000, TEN)
    for old, new in ((empty, OLD), (OLD, empty), (empty, empty), (OLD, made(1000, 20_000, TEN, seed=7))):
        bytes_of(old, new)
    other = made(1000, 20_000, ("x", "y"), seed=7)
    bytes_of(OLD, other)
    bytes_of(other, OLD)
    bytes_of(empty, other)


@settings(max_examples=50, deadline=None)
@given(
    k=st.integers(0, 200),
    classes=st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=8, unique=True),
    others=st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=8, unique=True),
    gone=st.floats(0, 1),
    relabelled=st.floats(0, 1),
    added=st.integers(0, 100),
    known=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_change_comes_out(
    k: int, classes: list[str], others: list[str], gone: float, relabelled: float, added: int, known: bool, seed: int
) -> None:
    old = made(k, 300, tuple(classes), seed)
    new = changed(old, gone=gone, relabelled=relabelled, added=added, seed=seed)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(others), len(new)) if seed % 2 else np.minimum(new.labels, len(others) - 1)
    new = replace(new, classes=tuple(others), labels=labels, notes={"n": seed} if known else old.notes)
    bytes_of(old, new, folders(300) if known else SharedContext())


def test_changes_are_for_one_payload_alone() -> None:
    new = changed(gone=0.1, added=30)
    changes = parse_changes(write_changes(OLD, new))
    for other in (new, changed(added=1), replace(OLD, serial=1), replace(OLD, notes={}), renamed(OLD, a="A")):
        with pytest.raises(ReferenceMismatch, match="Apply them to the payload that they were made for") as caught:
            apply_changes(other, changes)
        assert caught.value.wanted == OLD.digest().hex()
    for other in (
        replace(OLD, reference=20_001), replace(OLD, key_id=KEY[::-1]), replace(OLD, content_id=CONTENT[::-1])
    ):  # fmt: skip
        with pytest.raises(ReferenceMismatch, match="payloads of one reference"):
            apply_changes(other, changes)
        with pytest.raises(ReferenceMismatch, match="payloads of one reference"):
            write_changes(other, new)
    with pytest.raises(ReferenceMismatch, match="manifest or pack given"):
        apply_changes(OLD, changes, shared=SharedContext(np.array([0, 10])))


def test_two_changes_in_their_order() -> None:
    second = changed(gone=0.1, relabelled=0.1)
    third = changed(second, added=50, seed=3)
    one, two = (parse_changes(write_changes(a, b)) for a, b in ((OLD, second), (second, third)))
    assert same(apply_changes(apply_changes(OLD, one), two), third)
    with pytest.raises(ReferenceMismatch):
        apply_changes(OLD, two)


def test_a_payload_and_changes_are_told_apart() -> None:
    data = write_changes(OLD, changed(added=5))
    with pytest.raises(PayloadError, match="plada apply"):
        parse_payload(data)
    with pytest.raises(RequestError, match="is a payload"):
        parse_changes(OLD.encode())
    with pytest.raises(PayloadTruncated):
        parse_changes(data[:-1])
    with pytest.raises(PayloadTruncated):
        parse_changes(b"")
    with pytest.raises(PayloadUnsupported, match="version 1"):
        parse_changes(b"\x89PLD\1")


def test_changes_can_be_signed() -> None:
    changes = parse_changes(write_changes(OLD, changed(added=5), signer=Signer(b"abcd", lambda _: bytes(64))))
    assert changes.signature is not None
    assert changes.signature.fingerprint == b"abcd"


def test_every_flipped_bit_and_truncation_is_noticed() -> None:
    data = write_changes(OLD, changed(gone=0.01, relabelled=0.01, added=10, notes={"a": 1}))
    for cut in range(len(data)):
        with pytest.raises(PayloadTruncated):
            parse_changes(data[:cut])
    for bit in range(8 * len(data)):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError):
            parse_changes(bytes(bad))


NEW = changed(gone=0.05, relabelled=0.05, added=30, classes=(*TEN[:3], "new", *TEN[4:]))
FEW = made(120, 20_000, TEN)
FEWER = changed(FEW, gone=0.1, relabelled=0.1, added=9, classes=(*TEN[:3], "new", *TEN[4:]))
BODY = read_container(write_changes(FEW, FEWER)).sections[DIFF]


def sealed(body: bytes, classes: int = 10) -> bytes:
    return write_container(Header(20_000, classes, KEY, CONTENT), {DIFF: body})


def test_lies_behind_right_checksums_never_give_a_payload() -> None:
    """Every byte of the body, changed, with checksums made anew: an error, or exactly the new payload."""
    for place in range(len(BODY)):
        bad = bytearray(BODY)
        bad[place] ^= (1, 0x80, 0xFF)[place % 3]
        try:
            found = apply_changes(FEW, parse_changes(sealed(bytes(bad))))
        except (PayloadError, ReferenceMismatch):
            continue
        assert same(found, FEWER)
    for cut in range(0, len(BODY), 7):
        with pytest.raises(PayloadError):
            apply_changes(FEW, parse_changes(sealed(BODY[:cut])))


def remade(old: bytes = OLD.digest(), new: bytes = NEW.digest(), flags: int = 0, rest: bytes = b"") -> bytes:
    return sealed(old + new + bytes([flags]) + rest)


EMPTY = b"\1\0\0"  # no image, in the coder of gaps
TAKEN = b"\1\x0a\0\0"  # ten classes taken over
AFTER = b"\0" + b"\0"  # none renamed, nothing about them


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (sealed(b""), "too short"),
        (write_container(Header(20_000, 10, KEY, CONTENT), {ABOUT: b"", DIFF: BODY}), "within them"),
        (remade(flags=2, rest=TAKEN + AFTER), "unknown flags"),
        (remade(rest=b"\1\x09\0\0" + AFTER + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "another number of classes"),
        (remade(rest=b"\1\x09\0\1" + AFTER + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "0 names for 1 new classes"),
        (
            remade(rest=TAKEN + b"\0" + b'\x08\4{"a":1}' + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY),
            "without an announcement",
        ),
        (remade(rest=TAKEN + AFTER + b"\x7f" + EMPTY), "claims 127 bytes"),
        (remade(rest=TAKEN + AFTER + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "they promise"),
        (remade(rest=b"\1\x09\2\1" + b"\0" + b"\2\2z" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "of one twice"),
        (remade(rest=b"\1\x09\1\1" + b"\1\3\x09" + b"\2\2z" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "of one twice"),
        (remade(rest=b"\1\x09\1\1" + b"\1\x09\3" + b"\2\2z" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "of one twice"),
        (remade(rest=b"\1\x09\1\1" + b"\1\x7f\x09" + b"\2\2z" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "of one twice"),
        (remade(rest=b"\1\x09\1\1" + b"\1\x09\x7f" + b"\2\2z" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "of one twice"),
        (
            remade(rest=b"\1\x09\1\1" + b"\2\x09\x09\x09\x09" + b"\2\2z" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY),
            "of one twice",
        ),
        (remade(rest=b"\1\x09\1\1" + b"\0" + b"\2\2z" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "stay without a label"),
        (remade(rest=b"\1\x09\1\1" + b"\1\x09\x09" + b"\2\2a" + b"\3" + EMPTY + b"\3" + EMPTY + EMPTY), "same name"),
    ],
)
def test_liars_are_named(data: bytes, words: str) -> None:
    with pytest.raises(PayloadCorrupt, match=words):
        apply_changes(OLD, parse_changes(data))


def test_an_image_that_is_there_cannot_be_added() -> None:
    from plada.payload.coders.body import write_content

    body = write_content(
        OLD.positions[:1], OLD.labels[:1], images=20_000, classes=10, coder="gaps-zstd", shared=SharedContext()
    )
    data = remade(rest=TAKEN + AFTER + b"\3" + EMPTY + b"\3" + EMPTY + body)
    with pytest.raises(PayloadCorrupt, match="rise strictly"):
        apply_changes(OLD, parse_changes(data))


def test_nothing_can_leave_an_empty_payload() -> None:
    from plada.payload.coders.body import write_content

    empty = made(0, 20_000, TEN)
    one = write_content(np.array([0]), np.array([0]), images=1, classes=1, coder="gaps-zstd", shared=SharedContext())
    data = remade(old=empty.digest(), rest=TAKEN + AFTER + bytes([len(one)]) + one + b"\3" + EMPTY + EMPTY)
    with pytest.raises(PayloadCorrupt, match="payload without images"):
        apply_changes(empty, parse_changes(data))


def test_images_are_sorted_by_class() -> None:
    order, bounds = sort_by_class(np.array([2, 0, 2, 0, 7]))
    assert (list(order), list(bounds if bounds is not None else [])) == ([1, 3, 0, 2, 4], [0, 2, 4, 5])
    assert sort_by_class(np.zeros(0, np.int64))[1] is None


def test_classes_mean_what_they_say() -> None:
    classes = ClassMapping(((2, 1, 1), (0, 1, 0), (1, 0, 2)), ((2, 3),))
    assert list(classes.sources()) == [0, 1, None, 4, None, None]
    assert list(classes.meaning(6)) == [0, 1, -1, 2, 3, -1]


def test_added_images_may_lean_on_a_pack() -> None:
    """Where it pays: the header then names the pack, and the reader needs it."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 16, (8000, 8))
    positions = np.sort(rng.choice(8000, 600, replace=False))
    labels = rng.integers(0, 3, 600)
    features[positions] += rng.normal(0, 40, (3, 8))[labels]
    shared = SharedContext(
        folders(8000).blocks, np.clip(np.rint(features), -127, 127).astype(np.int8), bytes(range(16))
    )
    new = Payload(positions, labels, ("a", "b", "c"), 8000, KEY, CONTENT)
    for kept, named in ((10, bytes(range(8))), (597, b"")):
        old = replace(new, positions=positions[:kept], labels=labels[:kept])
        changes = parse_changes(write_changes(old, new, shared=shared))
        assert changes.header.pack_id == named
        assert same(apply_changes(old, changes, shared=shared), new)
    with pytest.raises(SideMissing):
        apply_changes(
            replace(new, positions=positions[:10], labels=labels[:10]),
            parse_changes(
                write_changes(replace(new, positions=positions[:10], labels=labels[:10]), new, shared=shared)
            ),
        )
