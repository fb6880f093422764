"""Frames for a link without a way back: any of them are enough, and what is not whole and right is named."""

import math
import random
import struct
import sys
import zlib
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from plada.common.checksums import short_digest
from plada.errors import MissingExtra, PayloadCorrupt, PayloadError, PayloadTruncated, PayloadUnsupported, RequestError
from plada.payload.catalogue import carousel
from plada.payload.catalogue.carousel import CarouselFrames, read_carousel, write_carousel

pytest.importorskip("raptorq", reason="raptorq is not installed")

PAYLOAD = random.Random(1).randbytes(9_000)
FILES = {
    "catalogue": b"c" * 700,
    "tasks/digits": b"t" * 400,
    f"files/{short_digest(PAYLOAD)}": PAYLOAD,
    "files/" + "0" * 32: b"x",
}


def cut(frames: CarouselFrames) -> list[bytes]:
    size = frames.frame_bytes
    return [frames.data[at : at + size] for at in range(0, len(frames.data), size)]


def file_of(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "heard"
    path.write_bytes(data)
    return path


def refreshed(frame: bytes) -> bytes:
    """A frame with a check of its own, as somebody would send who means harm."""
    return frame[:-4] + zlib.crc32(frame[:-4]).to_bytes(4, "little")


@pytest.mark.parametrize("frame_bytes", [96, 256, 1000, 32_768])
def test_any_frames_are_enough(frame_bytes: int, tmp_path: Path) -> None:
    """A tenth of the frames is lost, reception begins anywhere: 15 % more frames than the content needs are enough (or two more, where
    there are few)."""
    sent = write_carousel(FILES, frame_bytes)
    frames = cut(sent)
    assert len(frames) == sent.count and sent.count * frame_bytes == len(sent.data)
    for seed in range(20):
        draw = random.Random(seed)
        start = draw.randrange(len(frames))
        turned = [frame for frame in frames[start:] + frames[:start] if draw.random() >= 0.1]
        enough = max(sent.needed + 2, math.floor(1.15 * sent.needed))
        path = file_of(tmp_path, b"".join(turned[:enough]))
        assert read_carousel(path) == FILES


def test_the_same_input_gives_the_same_bytes() -> None:
    assert write_carousel(FILES) == write_carousel(dict(FILES))
    # Of the format: never to be changed.
    assert blake3(write_carousel({"catalogue": bytes(range(256)) * 4}, 128).data).hexdigest() == PINNED


def test_the_frame_in_the_document() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "catalogue-format.md").read_text().partition("## 8.")[2]
    shown = bytes.fromhex(text.partition("```text")[2].partition("```")[0].replace("\n", ""))
    assert cut(write_carousel({"catalogue": b"abc"}, 96))[1] == shown
    for frame_bytes in range(96, 2000, 7):
        symbol = 8 * ((frame_bytes - 27) // 8)
        sent = write_carousel({"catalogue": b"abc" * 500}, frame_bytes)
        assert sent.needed == -(-(5 + 9 + 1500) // symbol)
        assert sent.count == sent.needed + -(-sent.needed // 4) + 8


PINNED = "daaeb4bc590404d4636ce1398f9cfe78f12baf73695ad38c2d63952f88fc4776"


def test_what_else_came_does_no_harm(tmp_path: Path) -> None:
    """Half frames, noise, damage, frames twice, an older carousel."""
    draw = random.Random(3)
    heard = bytearray(cut(write_carousel({"catalogue": b"old"}))[0][100:])
    for frame in cut(write_carousel({"catalogue": b"old"})):
        heard += frame
    frames = cut(write_carousel(FILES))
    draw.shuffle(frames)
    for number, frame in enumerate(frames):
        heard += frame if number % 5 else frame[:50] + b"?" + frame[51:]
        heard += frame * (number % 3 == 0)
        heard += draw.randbytes(draw.randrange(40)) + carousel.MAGIC * (number % 7 == 0)
    assert read_carousel(file_of(tmp_path, bytes(heard))) == FILES


def test_the_carousel_that_came_last_is_read(tmp_path: Path) -> None:
    old, new = write_carousel({"catalogue": b"old"}), write_carousel({"catalogue": b"new"})
    assert read_carousel(file_of(tmp_path, old.data + new.data)) == {"catalogue": b"new"}
    assert read_carousel(file_of(tmp_path, new.data + old.data)) == {"catalogue": b"old"}
    one = cut(write_carousel(FILES))[0]
    assert read_carousel(file_of(tmp_path, old.data + one)) == {
        "catalogue": b"old"
    }  # of the new one too little is here


def test_too_few_frames(tmp_path: Path) -> None:
    sent = write_carousel(FILES)
    for count in (1, 10, sent.needed - 1):
        with pytest.raises(
            PayloadTruncated, match=rf"heard: {count} different frames came; {sent.needed} or a few more"
        ):
            read_carousel(file_of(tmp_path, b"".join(cut(sent)[:count] * 3)))
    for nothing in (b"", b"x" * 5000, cut(sent)[0][1:], cut(sent)[0][:-1]):
        path = file_of(tmp_path, nothing)
        with pytest.raises(PayloadCorrupt, match="no whole frame of a carousel"):
            read_carousel(path)


def test_frames_that_somebody_made_up(tmp_path: Path) -> None:
    sent = write_carousel(FILES)
    frames = cut(sent)
    for at, value in ((24, b"\xff\xff\xff"), (23, b"\1"), (40, b"wrong")):
        bad = [refreshed(frame[:at] + value + frame[at + len(value) :]) for frame in frames]
        with pytest.raises((PayloadCorrupt, PayloadTruncated), match="heard: "):
            read_carousel(file_of(tmp_path, b"".join(bad)))
    with pytest.raises(PayloadCorrupt, match="do not make what they promise"):
        read_carousel(file_of(tmp_path, b"".join(refreshed(f[:40] + b"!" + f[41:]) for f in frames)))
    claims = frames[0][:7] + struct.pack("<I", 8 << 20) + frames[0][11:]
    with pytest.raises(PayloadTruncated, match="1 different frames came"):
        read_carousel(file_of(tmp_path, refreshed(claims)))
    newer = file_of(tmp_path, refreshed(frames[0][:4] + b"\2" + frames[0][5:]))
    with pytest.raises(PayloadUnsupported, match=r"frames of version 2; this plada reads 1\. Install"):
        read_carousel(newer)


def test_content_that_is_no_list_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, message in (
        (b"\x05\0\0", "no list of files"),
        (b"\1\0\0\0\0\xff", "no list of files"),
        (b"\0\xff\0\0\0x", "ends within"),
    ):
        monkeypatch.setattr(carousel, "_join", lambda _, content=content: content)
        with pytest.raises(PayloadCorrupt, match=message):
            read_carousel(file_of(tmp_path, write_carousel({}).data))


def test_what_cannot_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for frame_bytes in (0, 95, 32_769):
        with pytest.raises(RequestError, match=rf"frames of {frame_bytes} bytes: expected 96 to 32768"):
            write_carousel(FILES, frame_bytes)
    with pytest.raises(RequestError, match=r"too many frames\. Make them larger"):
        write_carousel({"catalogue": bytes(5 << 20)}, 96)
    monkeypatch.setattr(carousel, "MAX_CONTENT", 1000)
    with pytest.raises(RequestError, match=r"at most 1000 are sent\. Name fewer tasks"):
        write_carousel(FILES)
    monkeypatch.setattr(carousel, "MAX_CAPTURE", 1000)
    with pytest.raises(RequestError, match="over 1000 bytes"):
        read_carousel(file_of(tmp_path, bytes(1001)))
    with pytest.raises(RequestError, match="cannot be read"):
        read_carousel(tmp_path / "none")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = write_carousel(FILES)
    monkeypatch.setitem(sys.modules, "raptorq", None)
    with pytest.raises(MissingExtra, match=r"a carousel needs raptorq.*\[carousel\]"):
        write_carousel(FILES)
    with pytest.raises(MissingExtra, match=r"\[carousel\]"):
        read_carousel(file_of(tmp_path, sent.data))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255), st.integers(0, 255), st.booleans()), max_size=12))
def test_whatever_is_changed_is_refused_by_name_or_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, int, bool]]
) -> None:
    """Bytes of some frames are others, with or without a check that fits."""
    sent = write_carousel(FILES, 512)
    frames = cut(sent)[: sent.needed + 4]
    for number, at, value, fits in changes:
        frame = bytearray(frames[number % len(frames)])
        frame[at] = value
        frames[number % len(frames)] = refreshed(bytes(frame)) if fits else bytes(frame)
    path = tmp_path_factory.mktemp("heard") / "frames"
    path.write_bytes(b"".join(frames))
    try:
        assert read_carousel(path) == FILES
    except PayloadError as err:
        assert str(path) in str(err)
