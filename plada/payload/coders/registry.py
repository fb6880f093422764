"""From (positions, labels) to the bytes of a body and back. docs/payload-coders.md is the authority.

`auto` takes the smallest of the coders that the receiver can read with what it knows (`SharedContext`): gaps or a bitmap
through zstd, a model of blocks of 256 images, the same with the folders of the manifest, and a model that follows a pack's features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from plada.errors import PayloadCorrupt, PayloadUnsupported, RequestError, SideMissing, UnknownName
from plada.payload.coders.features import decode_features, encode_features, fits
from plada.payload.coders.plain import (
    decode_bitmap,
    decode_gaps,
    decode_plain,
    encode_bitmap,
    encode_gaps,
    encode_plain,
)
from plada.payload.coders.runs import cut_bounds, decode_blocks, encode_blocks, even_bounds
from plada.payload.shared_context import SharedContext
from plada.payload.varints import read_varint, varint

Positions = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]
MAX_IMAGES = 1 << 28
_SMALL = 1 << 16  # images kept, and 16 times as many in the reference, up to which every coder is tried in full
_QUICK = 3  # zstd's level for a first look


@dataclass(frozen=True, slots=True)
class Shape:
    """What both ends know of a content before they see it."""

    images: int
    classes: int
    side: SharedContext


@dataclass(frozen=True, slots=True)
class Coder:
    """`encode(positions, labels, shape)` gives what follows k in a body, `decode(bytes, k, shape)` undoes it, k > 0.

    `needs` is what the reader must know: "manifest", "pack", both or nothing.
    """

    code: int
    needs: tuple[str, ...]
    encode: Callable[[Positions, Labels, Shape], bytes]
    decode: Callable[[bytes, int, Shape], tuple[Positions, Labels]]


def _plain(code: int, write: Callable[[Positions, int], bytes], read: Callable[[bytes, int, int], Positions]) -> Coder:
    def encode(positions: Positions, labels: Labels, shape: Shape) -> bytes:
        return encode_plain(positions, labels, images=shape.images, classes=shape.classes, places=write)

    def decode(coded: bytes, kept: int, shape: Shape) -> tuple[Positions, Labels]:
        return decode_plain(coded, kept, images=shape.images, classes=shape.classes, places=read)

    return Coder(code, (), encode, decode)


def _bounds(shape: Shape, folders: bool) -> Positions:
    if shape.images > MAX_IMAGES:
        raise PayloadCorrupt(f"a body of a model claims {shape.images} images; expected at most {MAX_IMAGES}")
    if not folders or shape.side.blocks is None:
        return even_bounds(shape.images)
    return cut_bounds(shape.side.blocks)


def _encode_runs(positions: Positions, labels: Labels, shape: Shape, *, folders: bool) -> bytes:
    return encode_blocks(positions, labels, classes=shape.classes, bounds=_bounds(shape, folders))


def _decode_runs(coded: bytes, kept: int, shape: Shape, *, folders: bool) -> tuple[Positions, Labels]:
    return decode_blocks(coded, kept, classes=shape.classes, bounds=_bounds(shape, folders))


def _encode_pack(positions: Positions, labels: Labels, shape: Shape, *, folders: bool) -> bytes:
    features, bounds = _features(shape), _bounds(shape, folders)
    if not fits(shape.images, shape.classes, bounds, features):
        raise RequestError(
            f"coder 'pack': {shape.images} images, {shape.classes} classes and {features.shape[1]} features are more than "
            "it takes on. Leave the choice of the coder to auto"
        )
    return encode_features(positions, labels, classes=shape.classes, bounds=bounds, features=features)


def _decode_pack(coded: bytes, kept: int, shape: Shape, *, folders: bool) -> tuple[Positions, Labels]:
    features, bounds = _features(shape), _bounds(shape, folders)
    if not fits(shape.images, shape.classes, bounds, features):
        raise PayloadCorrupt(
            f"a body made with a pack claims {shape.images} images of {shape.classes} classes, which is beyond its limits"
        )
    return decode_features(coded, kept, classes=shape.classes, bounds=bounds, features=features)


def _features(shape: Shape) -> npt.NDArray[np.int8]:
    features = shape.side.features
    assert features is not None  # _check_side has looked
    if len(features) != shape.images:
        raise RequestError(f"side: {len(features)} rows of features for {shape.images} images")
    return features


CODERS: Mapping[str, Coder] = MappingProxyType(
    {
        "gaps-zstd": _plain(1, encode_gaps, decode_gaps),
        "bitmap-zstd": _plain(2, encode_bitmap, decode_bitmap),
        "blocks": Coder(3, ("manifest",), partial(_encode_runs, folders=True), partial(_decode_runs, folders=True)),
        "even-blocks": Coder(5, (), partial(_encode_runs, folders=False), partial(_decode_runs, folders=False)),
        "pack": Coder(
            4, ("manifest", "pack"), partial(_encode_pack, folders=True), partial(_decode_pack, folders=True)
        ),
        "pack-even": Coder(6, ("pack",), partial(_encode_pack, folders=False), partial(_decode_pack, folders=False)),
    }
)
_BY_CODE = {coder.code: name for name, coder in CODERS.items()}
_HINTS = {
    "manifest": "the folders of its reference's keys, which are not at hand. Give the reference or its manifest",
    "pack": "a pack, which is not at hand. Install the pack that its header names (plada install-pack)",
}


def allowed(name: str, side: SharedContext) -> bool:
    """Whether a reader who knows `side` can read what coder `name` writes."""
    return not _missing(name, side)


def _missing(name: str, side: SharedContext) -> list[str]:
    known = {"manifest": side.blocks, "pack": side.features}
    return [needs for needs in CODERS[name].needs if known[needs] is None]


def encode_body(
    positions: Positions, labels: Labels, *, images: int, classes: int, coder: str = "auto", side: SharedContext
) -> bytes:
    """The bytes of one content: positions int64 [k], rising, below `images`; labels int64 [k], below `classes`.

    `auto` is the smallest that `side` allows, of equals the first in CODERS.

    Raises:
        UnknownName: no such coder. SideMissing: `side` lacks what the coder needs.
    """
    if coder == "auto":
        return min(_bodies(positions, labels, Shape(images, classes, side)).values(), key=len)
    if coder not in CODERS:
        raise UnknownName("coder", coder, CODERS)
    _check_side(coder, side)
    return _body(coder, positions, labels, Shape(images, classes, side))


def decode_body(body: bytes, *, images: int, classes: int, side: SharedContext) -> tuple[Positions, Labels, str]:
    """(positions, labels, name of the coder) of a body.

    Raises:
        PayloadUnsupported: a coder of a newer plada.
        SideMissing: `side` lacks the folders or the pack that it was made with.
        PayloadCorrupt: anything that contradicts the format, before memory for it is taken.
    """
    name, kept, at = read_start(body, images)
    if not kept:
        if body[at:] not in (b"", b"\0"):  # coders 1 and 2 have had a length of positions here
            raise PayloadCorrupt("bytes follow an empty content")
        return np.zeros(0, np.int64), np.zeros(0, np.int64), name
    _check_side(name, side)
    positions, labels = CODERS[name].decode(body[at:], kept, Shape(images, classes, side))
    return positions, labels, name


def read_start(body: bytes, images: int) -> tuple[str, int, int]:
    """(name of the coder, images named, bytes that say so) of a body; nothing beside it is needed.

    Raises:
        PayloadUnsupported: a coder of a newer plada. PayloadCorrupt: empty, or more images than there are.
    """
    if not body:
        raise PayloadCorrupt("a body is empty")
    name = _BY_CODE.get(body[0])
    if name is None:
        raise PayloadUnsupported(f"coder {body[0]} is not known to this plada. Install a newer plada")
    kept, at = read_varint(body, 1)
    if kept > min(images, MAX_IMAGES):
        raise PayloadCorrupt(f"a body claims {kept} of {images} images")
    return name, kept, at


def encoded_size(
    positions: Positions, labels: Labels, *, images: int, classes: int, coder: str = "auto", side: SharedContext
) -> int:
    """Bytes of encode_body, exactly."""
    return len(encode_body(positions, labels, images=images, classes=classes, coder=coder, side=side))


def body_sizes(
    positions: Positions, labels: Labels, *, images: int, classes: int, side: SharedContext
) -> dict[str, int]:
    """Bytes of a body under every coder that `side` allows."""
    shape = Shape(images, classes, side)
    return {name: len(_body(name, positions, labels, shape)) for name in _names(shape)}


def _check_side(name: str, side: SharedContext) -> None:
    for needs in _missing(name, side):
        raise SideMissing(f"the payload's coder '{name}' needs {_HINTS[needs]}", needs=needs)


def _names(shape: Shape) -> list[str]:
    """Coders worth a try: with folders known, a pack is not tried without them, nor where it is too much work."""
    names = [name for name in CODERS if allowed(name, shape.side)]
    if shape.images > MAX_IMAGES:
        return [name for name in names if name.endswith("zstd")]
    if "pack" in names:
        names.remove("pack-even")
    packed = [name for name in names if "pack" in CODERS[name].needs]
    if packed and not fits(shape.images, shape.classes, _bounds(shape, packed == ["pack"]), _features(shape)):
        names.remove(packed[0])
    return names


def _body(name: str, positions: Positions, labels: Labels, shape: Shape) -> bytes:
    head = bytes([CODERS[name].code]) + varint(len(positions))
    return head + CODERS[name].encode(positions, labels, shape) if len(positions) else head


def _bodies(positions: Positions, labels: Labels, shape: Shape) -> dict[str, bytes]:
    """Bodies of every coder worth trying: zstd's highest level takes seconds on large contents, so that is left out
    where a quick look says that it cannot come near."""
    if not len(positions):
        return {"gaps-zstd": _body("gaps-zstd", positions, labels, shape)}
    plain = {"gaps-zstd": encode_gaps, "bitmap-zstd": encode_bitmap}
    bodies = {name: _body(name, positions, labels, shape) for name in _names(shape) if name not in plain}
    small = len(positions) <= _SMALL and shape.images <= 16 * _SMALL
    for name, places in plain.items():
        if bodies and not small:
            look = encode_plain(
                positions, labels, images=shape.images, classes=shape.classes, places=places, level=_QUICK
            )
            if len(look) > 1.2 * min(map(len, bodies.values())):
                continue
        bodies[name] = _body(name, positions, labels, shape)
    return {name: bodies[name] for name in CODERS if name in bodies}
