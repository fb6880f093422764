"""Queries in every form, turned into unit vectors: images, words, positions, vectors."""

import io
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from plada.common.arrays import F32, Bools
from plada.common.failures import first_line
from plada.encoders.encoder import Encoder
from plada.errors import RequestError, Unreadable
from plada.sources.collection import IMAGE_SUFFIXES
from plada.sources.decode import decode

_BATCH = 64  # images or texts encoded at a time
_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})  # modes of PIL that a PNG holds as they are
_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA", "PA": "RGBA"}
_POSITION, _KEY, _TEXT = "position:", "key:", "text:"

Keys = Callable[[list[int]], Sequence[str]]  # of positions


@dataclass(frozen=True, slots=True)
class Query:
    """One query: `kind` is image, text, position, key or vector; `value` a PIL image (or the path of one), the words, the number,
    the key or its beginning, or the vector float32 [d]; `name` is how to speak of it."""

    kind: str
    value: Any
    name: str


def split_queries(queries: Any) -> list[Any]:
    """The single queries in what `Index.search` takes: one query, a list of these, or an array that holds several."""
    if isinstance(queries, str | Path) or _is_picture(queries):
        return [queries]
    if hasattr(queries, "__array__"):
        array = np.asarray(queries)
        images = array.dtype == np.uint8
        if array.ndim < (2 if images else 1):
            raise RequestError(
                f"a query of type {array.dtype} and shape {array.shape}: expected pixels uint8 [h, w, 3] or a vector of floats"
            )
        if array.dtype.kind not in "fiu":
            return list(array.tolist())
        single = array.ndim == 1 or (images and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] <= 4)))
        return [array] if single else list(array)
    return list(queries) if isinstance(queries, Sequence) else [queries]


def parse_query(query: Any) -> Query:
    """What one query is. A string that is an existing file is an image, then come position:N, key:KEY and text:WORDS; anything
    else is text.

    Raises:
        RequestError: it is none of these.
    """
    if _is_picture(query):
        return Query("image", query, "an image")
    if isinstance(query, Path):
        return Query("image", query, str(query))
    if isinstance(query, str):
        if _is_file(query):
            return Query("image", Path(query), query)
        if query.startswith(_POSITION):
            try:
                return Query("position", int(query.removeprefix(_POSITION)), query)
            except ValueError as err:
                raise RequestError(f"query '{query}': expected position: and a whole number") from err
        if query.startswith(_KEY):
            if query == _KEY:
                raise RequestError(f"query '{query}': expected key: and a key, or the beginning of one")
            return Query("key", query.removeprefix(_KEY), query)
        if not query.startswith(_TEXT) and Path(query).suffix.lower() in IMAGE_SUFFIXES:
            raise RequestError(
                f"query '{query}': there is no such image file. To search for these words write text:{query}"
            )
        words = query.removeprefix(_TEXT).strip()
        if not words:
            raise RequestError(f"query '{query}': expected an image file, position:NUMBER, key:KEY or words")
        return Query("text", words, query)
    if hasattr(query, "__array__"):
        array = np.asarray(query)
        if array.dtype == np.uint8:
            return Query("image", array, f"pixels of shape {array.shape}")
        if array.dtype.kind in "fiu" and array.ndim == 1:
            with np.errstate(over="ignore"):  # what float32 cannot hold is refused as not finite
                return Query("vector", array.astype(np.float32), f"a vector of dimension {len(array)}")
    raise RequestError(
        f"a query of type {type(query).__name__}: expected an image (path, PIL image, uint8 array), a vector of floats, words, "
        "position:NUMBER, or key:KEY"
    )


def position_of_key(wanted: str, keys: Keys, images: int) -> int:
    """The position of the image with the key `wanted`, or of the only one whose key begins with it. Positions are ranks of keys.

    Raises:
        RequestError: no key begins with it, or several do.
    """
    everything = range(images)
    first = bisect_left(everything, wanted, key=lambda position: keys([position])[0])
    there = [keys([position])[0] for position in everything[first : first + 2]]
    there = [key for key in there if key.startswith(wanted)]
    if not there:
        near = ", ".join(keys(sorted({max(first - 1, 0), min(first, images - 1)})))
        raise RequestError(f"query '{_KEY}{wanted}': no key of the index begins so; near it are {near}")
    if len(there) > 1 and there[0] != wanted:
        raise RequestError(
            f"query '{_KEY}{wanted}': several keys begin so, such as {there[0]} and {there[1]}. Give the whole key of one"
        )
    return first


def embed_queries(
    queries: Any,
    *,
    dimension: int,
    encoder: Callable[[], Encoder],
    vectors: Callable[[list[int]], npt.NDArray[np.floating]],
    find: Callable[[str], int],
) -> F32:
    """Unit vectors float32 [n, d] of queries; `encoder` is asked for only where there are images or words, `vectors` gives
    the stored vectors of positions, `find` the position of a key.

    Raises:
        RequestError: no query, one that cannot be understood, has no length, or is of another dimension; words where the
            encoder has no text tower.
    """
    if isinstance(queries, np.ndarray) and queries.dtype.kind == "f" and queries.ndim == 2:
        with np.errstate(over="ignore"):
            return _unit(queries.astype(np.float32), dimension)  # thousands of vectors need not be looked at one by one
    parsed = [parse_query(query) for query in split_queries(queries)]
    if not parsed:
        raise RequestError("no query: expected at least one image, vector, text, position:NUMBER or key:KEY")
    parsed = [replace(each, kind="position", value=find(each.value)) if each.kind == "key" else each for each in parsed]
    if wrong := next((query for query in parsed if query.kind == "vector" and len(query.value) != dimension), None):
        raise RequestError(f"{wrong.name}: the index has vectors of dimension {dimension}")
    embedded = np.zeros((len(parsed), dimension), np.float32)
    for kind in ("vector", "position", "text", "image"):
        rows = [row for row, query in enumerate(parsed) if query.kind == kind]
        if kind == "vector":
            for row in rows:
                embedded[row] = parsed[row].value
        elif kind == "position" and rows:
            embedded[rows] = vectors([parsed[row].value for row in rows])
        else:
            for start in range(0, len(rows), _BATCH):
                some = rows[start : start + _BATCH]
                encode = _encode_text if kind == "text" else _encode_images
                embedded[some] = encode([parsed[row] for row in some], encoder())
    return _unit(embedded, dimension)


def query_image(query: Query) -> Any:
    """The image of a query as the encoder sees it: PIL, RGB, transparency over white, as images of a collection are decoded.

    Raises:
        RequestError: no such file, or not an image.
    """
    value = query.value
    try:
        if isinstance(value, Path):
            return decode(value.read_bytes())
        if isinstance(value, np.ndarray):
            value = Image.fromarray(value)
        if 0 in value.size:
            raise Unreadable(f"it has no pixels: {value.size[0]}x{value.size[1]}")
        if value.mode == "RGB" and "transparency" not in value.info:
            return value.copy()
        if value.mode in ("I", "F"):
            raise Unreadable(f"pixels of mode {value.mode}: no value is defined as white. Make it 8 or 16 bits")
        if value.mode in _PREMULTIPLIED:
            value = value.convert(_PREMULTIPLIED[value.mode])
        if value.mode not in _PNG:
            return value.convert("RGB")
        # One way for all: what decode() makes of a stored image is what an image in memory becomes, too.
        stored = io.BytesIO()
        value.save(stored, "PNG", compress_level=0)
        return decode(stored.getvalue())
    except Unreadable as err:
        raise RequestError(f"query '{query.name}': {err}") from err
    except (OSError, ValueError, TypeError, KeyError) as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else first_line(err)
        raise RequestError(f"query '{query.name}': not an image that can be read ({reason})") from err


def _encode_images(some: list[Query], encoder: Encoder) -> F32:
    return encoder.encode(np.stack([encoder.view.of(query_image(query)) for query in some]))


def _encode_text(some: list[Query], encoder: Encoder) -> F32:
    towers: Callable[[list[str]], F32] | None = getattr(encoder, "encode_text", None)
    if towers is None:
        raise RequestError(
            f"query '{some[0].name}': there is no such file, and encoder {encoder.config.name} has no text tower, so that the "
            "index cannot be searched by words. Give an image file, position:NUMBER or key:KEY, or index with an open_clip encoder"
        )
    return towers([query.value for query in some])


def _unit(vectors: F32, dimension: int) -> F32:
    """The vectors at length one; lengths are taken in float64, where none overflows."""
    if vectors.ndim != 2 or vectors.shape[1] != dimension or not len(vectors):
        raise RequestError(f"queries of shape {vectors.shape}: expected at least one vector of dimension {dimension}")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if bad := next(_rows(~np.isfinite(vectors).all(axis=1) | (lengths[:, 0] == 0)), None):
        raise RequestError(f"query {bad} of {len(vectors)}: its vector is zero or not finite: it has no neighbours")
    return np.asarray(vectors / lengths, np.float32)


def _rows(which: Bools) -> Iterator[int]:
    """Numbers, from 1, of the rows that are marked."""
    return (int(row) + 1 for row in np.flatnonzero(which))


def _is_picture(query: Any) -> bool:
    return isinstance(query, Image.Image)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # longer than a name may be, or with a zero byte: words, then
        return False
