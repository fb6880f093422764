"""Names of classes and notes, the section "about": one text, deflated against a dictionary of what notes usually say.

Deflate and not zstd: every language has it, and short texts come out 2 to 6 % smaller (docs/log.md).
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from plada.errors import PayloadCorrupt

MAX_TEXT = 1 << 24  # bytes after decompression; 65 535 names of 255 bytes fit
MAX_NAME = 1024  # letters of a name: exports repeat it for each image
_DEFLATED, _NAMES, _NOTES = 1, 2, 4

# ByteRange of the format: never to be changed. What is likeliest stands last, where it is cheapest to point at.
DICTIONARY = (
    b'\0{"recipe":{"batch_size":64,"body_rate":0.03,"ema":0.99,"epochs":20,"image_size":224,"label_smoothing":0.1,'
    b'"learning_rate":0.001,"rotate":15.0,"scale":1.5,"shear":0.2,"stretch":0.2,"supersample":2,"translate":0.1,'
    b'"warmup":0.1,"weight_decay":0.05},"target":"","teacher_accuracy":0.8,"teacher_accuracy":0.9}\0{"target":"'
    b'\0{"recipe":{"mirror":true}}\0{"recipe":{"epochs":30,"mirror":false},"target":"'
    b'\0{"recipe":{"image_size":64,"mirror":false}}'
)


def default_names(count: int) -> tuple[str, ...]:
    """Names of the classes of a payload that has none: the numbers from 0."""
    return tuple(str(number) for number in range(count))


def notes_text(notes: Mapping[str, Any]) -> str:
    """Notes as the one text that stands for them: JSON with sorted members, no spaces, ASCII alone."""
    return json.dumps(dict(notes), separators=(",", ":"), sort_keys=True, allow_nan=False)


def write_metadata(names: tuple[str, ...] | None, notes: Mapping[str, Any]) -> bytes:
    """Body of the section, b"" where there is nothing to say; `names` None: they need not be sent."""
    texts = ["\0".join(names)] if names is not None else []
    texts += [notes_text(notes)] if notes else []
    if not texts:
        return b""
    flags = (_NAMES if names is not None else 0) | (_NOTES if notes else 0)
    raw = "\0".join(texts).encode()
    packed = _deflate(raw)
    return bytes([flags | _DEFLATED]) + packed if len(packed) < len(raw) else bytes([flags]) + raw


def read_metadata(body: bytes, classes: int) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """(names, or None where there are none; notes) of a section of `classes` names.

    Raises:
        PayloadCorrupt: not what write_metadata makes.
    """
    flags = body[0] if body else 0
    if not flags & (_NAMES | _NOTES) or flags & ~(_DEFLATED | _NAMES | _NOTES):
        raise PayloadCorrupt(f"names and notes are of an unknown kind {flags}")
    try:
        text = (_inflate(body[1:]) if flags & _DEFLATED else body[1:]).decode()
    except UnicodeDecodeError as err:
        raise PayloadCorrupt(f"names or notes are not UTF-8 ({err})") from err
    if not flags & _NAMES:
        return None, _read_notes(text)
    fields = text.split("\0", classes)
    names = tuple(fields[:classes])
    if len(fields) != classes + bool(flags & _NOTES):
        raise PayloadCorrupt(f"{len(fields)} names and notes for {classes} classes")
    if (longest := max(map(len, names))) > MAX_NAME:
        raise PayloadCorrupt(f"a class name of {longest} letters; expected at most {MAX_NAME}")
    if len(set(names)) != len(names):
        raise PayloadCorrupt(f"{len(names)} class names, some alike, for {classes} classes")
    return names, _read_notes(fields[classes]) if flags & _NOTES else {}


def _read_notes(text: str) -> dict[str, Any]:
    """The notes of their text, which must be that of notes_text."""
    try:
        notes = json.loads(text)
        same = isinstance(notes, dict) and notes_text(notes) == text
    except (ValueError, RecursionError) as err:
        raise PayloadCorrupt(f"the notes are not JSON ({err})") from err
    if not isinstance(notes, dict):
        raise PayloadCorrupt("the notes are not a JSON object")
    if not notes:
        raise PayloadCorrupt("the notes are empty; then there are none")
    if not same:
        raise PayloadCorrupt("the notes are JSON, but not as the format writes it")
    return notes


def _deflate(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=DICTIONARY)
    return packer.compress(raw) + packer.flush()


def _inflate(packed: bytes) -> bytes:
    stream = zlib.decompressobj(-15, zdict=DICTIONARY)
    try:
        raw = stream.decompress(packed, MAX_TEXT + 1)
    except zlib.error as err:
        raise PayloadCorrupt(f"names or notes do not decompress ({err})") from err
    if len(raw) > MAX_TEXT or not stream.eof or stream.unused_data:
        raise PayloadCorrupt(f"names or notes take over {MAX_TEXT} bytes, or do not end where their section does")
    return raw
