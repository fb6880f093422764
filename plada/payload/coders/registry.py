"""The coders of positions and labels. docs/payload-coders.md is the authority.

There are gaps or a bitmap through zstd, a model of blocks of 256 images, the same with the folders of the manifest, and a
model that follows a pack's features, with folders or without. A new coder is an entry of CODERS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from plada.common.arrays import I64
from plada.errors import PayloadCorrupt, RequestError
from plada.payload.coders.block_coder import cut_bounds, decode_blocks, encode_blocks, even_bounds
from plada.payload.coders.pack_coder import decode_features, encode_features, fits
from plada.payload.coders.zstd_coder import (
    decode_bitmap,
    decode_gaps,
    decode_zstd,
    encode_bitmap,
    encode_gaps,
    encode_zstd,
)
from plada.payload.shared_context import SharedContext


@dataclass(frozen=True, slots=True)
class Shape:
    """What both ends know of a content before they see it."""

    images: int
    classes: int
    shared: SharedContext


@dataclass(frozen=True, slots=True)
class Coder:
    """`encode(positions, labels, shape)` gives what follows k in a body, `decode(bytes, k, shape)` undoes it, k > 0.

    `needs` is what the reader must know: "manifest", "pack", both or nothing.
    """

    code: int
    needs: tuple[str, ...]
    encode: Callable[[I64, I64, Shape], bytes]
    decode: Callable[[bytes, int, Shape], tuple[I64, I64]]


def missing_context(name: str, shared: SharedContext) -> list[str]:
    """What a reader who knows `shared` lacks to read what coder `name` writes."""
    known = {"manifest": shared.blocks, "pack": shared.features}
    return [needs for needs in CODERS[name].needs if known[needs] is None]


def coders_for(shape: Shape) -> list[str]:
    """Coders worth a try: with folders known, a pack is not tried without them, nor where it is too much work."""
    names = [name for name in CODERS if not missing_context(name, shape.shared)]
    if "pack" in names:
        names.remove("pack-even")
    packed = [name for name in names if "pack" in CODERS[name].needs]
    if packed and not fits(shape.images, shape.classes, _bounds(shape, packed == ["pack"]), _features(shape)):
        names.remove(packed[0])
    return names


def _zstd(code: int, write: Callable[[I64, int], bytes], read: Callable[[bytes, int, int], I64]) -> Coder:
    def encode(positions: I64, labels: I64, shape: Shape) -> bytes:
        return encode_zstd(positions, labels, images=shape.images, classes=shape.classes, places=write)

    def decode(coded: bytes, kept: int, shape: Shape) -> tuple[I64, I64]:
        return decode_zstd(coded, kept, images=shape.images, classes=shape.classes, places=read)

    return Coder(code, (), encode, decode)


def _bounds(shape: Shape, folders: bool) -> I64:
    if not folders or shape.shared.blocks is None:
        return even_bounds(shape.images)
    return cut_bounds(shape.shared.blocks)


def _blocks(code: int, needs: tuple[str, ...]) -> Coder:
    folders = "manifest" in needs

    def encode(positions: I64, labels: I64, shape: Shape) -> bytes:
        return encode_blocks(positions, labels, classes=shape.classes, bounds=_bounds(shape, folders))

    def decode(coded: bytes, kept: int, shape: Shape) -> tuple[I64, I64]:
        return decode_blocks(coded, kept, classes=shape.classes, bounds=_bounds(shape, folders))

    return Coder(code, needs, encode, decode)


def _pack(code: int, needs: tuple[str, ...]) -> Coder:
    folders = "manifest" in needs

    def encode(positions: I64, labels: I64, shape: Shape) -> bytes:
        features, bounds = _features(shape), _bounds(shape, folders)
        if not fits(shape.images, shape.classes, bounds, features):
            raise RequestError(
                f"coder 'pack': {shape.images} images, {shape.classes} classes and {features.shape[1]} features are more "
                "than it takes on. Leave the choice of the coder to auto"
            )
        return encode_features(positions, labels, classes=shape.classes, bounds=bounds, features=features)

    def decode(coded: bytes, kept: int, shape: Shape) -> tuple[I64, I64]:
        features, bounds = _features(shape), _bounds(shape, folders)
        if not fits(shape.images, shape.classes, bounds, features):
            raise PayloadCorrupt(
                f"a body made with a pack claims {shape.images} images of {shape.classes} classes, which is beyond its limits"
            )
        return decode_features(coded, kept, classes=shape.classes, bounds=bounds, features=features)

    return Coder(code, needs, encode, decode)


def _features(shape: Shape) -> npt.NDArray[np.int8]:
    features = shape.shared.features
    assert features is not None  # the coder was allowed
    if len(features) != shape.images:
        raise RequestError(f"pack: {len(features)} rows of features for {shape.images} images")
    return features


CODERS: Mapping[str, Coder] = MappingProxyType(
    {
        "gaps-zstd": _zstd(1, encode_gaps, decode_gaps),
        "bitmap-zstd": _zstd(2, encode_bitmap, decode_bitmap),
        "blocks": _blocks(3, ("manifest",)),
        "even-blocks": _blocks(5, ()),
        "pack": _pack(4, ("manifest", "pack")),
        "pack-even": _pack(6, ("pack",)),
    }
)
