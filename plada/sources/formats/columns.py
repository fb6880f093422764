"""The columns of a table that hold images and their names: Hugging Face's layout, or bytes beside a key column.

Hugging Face writes an image as a struct of `bytes` and `path`; the path, without its extension, is the key.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from plada.common.failures import first_line
from plada.errors import DataError
from plada.sources.collection import is_image_name, key_of
from plada.sources.names import first_fault, shortened

_IMAGES = ("image", "img", "bytes", "jpg", "jpeg", "png", "webp", "data")
_KEYS = ("key", "__key__", "path", "file_name", "filename", "name", "id")


@dataclass(frozen=True, slots=True)
class ImageColumns:
    """Dotted names of the column of image bytes and of the column of names, such as `image.bytes` and `image.path`."""

    image: str
    key: str


def find_columns(schema: Any, where: str, column: str = "") -> ImageColumns:
    """The columns of a pyarrow schema that make a collection; `column` says which holds the images. Raises DataError: no
    column of images, several, or none of names: a row number is no identity, it moves when a file is rewritten."""
    names = schema.names
    candidates = image_columns(schema)
    if column:
        wanted = (column, f"{column}.bytes")
        own = column in names and is_binary(schema.field(column).type)
        candidates = [column] if own else [name for name in candidates if name in wanted]
        if not candidates:
            raise DataError(f"{where}: column {column} does not hold images; the columns are {', '.join(names)}")
    if len(candidates) > 1:
        shown = [name.removesuffix(".bytes") for name in candidates]
        raise DataError(
            f"{where}: several columns of images: {', '.join(shown)}. Say which is meant: column={shown[0]}:{where}, or "
            f"--column {shown[0]} with plada index"
        )
    image = candidates[0] if candidates else None
    if image is not None and image.endswith(".bytes") and image not in names:
        return ImageColumns(image, _own_key(schema) or f"{image.removesuffix('.bytes')}.path")
    if image is None:
        raise DataError(
            f"{where}: no column of images among {', '.join(names)}. Expected a struct of bytes and path (Hugging "
            f"Face's), or a binary column called {', '.join(_IMAGES)}"
        )
    key = _own_key(schema) or next((n for n in _KEYS if n in names and _is_text(schema.field(n).type)), None)
    if key is None:
        raise DataError(
            f"{where}: images in column {image}, but no column that names them. Add a text column 'key': a row number "
            "is no name, it changes when the file is written again"
        )
    return ImageColumns(image, key)


def image_columns(schema: Any) -> list[str]:
    """The dotted names of columns of image bytes of a pyarrow schema: structs as Hugging Face writes them, else binary columns
    of a usual name."""
    kinds = {name: schema.field(name).type for name in dict.fromkeys(schema.names)}
    structs = [
        f"{name}.bytes"
        for name, kind in kinds.items()
        if pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}
    ]
    return structs or [name for name in _IMAGES if name in kinds and is_binary(kinds[name])]


def keys_of(column: Any, where: str, at: int = 0) -> Any:
    """pyarrow string array of the keys of a column of names, the first of which is that of row `at`; an image's extension
    is left out. Raises DataError: a name that is missing, empty, or may not be (plada.sources.names)."""
    try:
        column = column.cast(pa.string())
        column.validate(full=True)
    except pa.ArrowInvalid as err:
        raise DataError(
            f"{where}: a name is not UTF-8 ({first_line(err)}). Write the table anew with UTF-8 text"
        ) from err
    if column.null_count or pc.any(pc.equal(column, "")).as_py():
        row = at + pc.index(pc.fill_null(pc.equal(column, ""), True), True).as_py()
        raise DataError(
            f"{where}: row {row} has an image but no name. Give every image one in a text column 'key': a row number is "
            "no name, it changes when the file is written again"
        )
    column = pc.replace_substring_regex(column, r"^\./", "", max_replacements=1)
    row, fault = first_fault(column, hidden=True)
    if fault:
        raise DataError(
            f"{where}: the name in row {at + row}, '{shortened(column[row].as_py())}', {fault}. Give the image another name in "
            "a text column 'key', or leave the row out"
        )
    return pa.array(
        [key_of(name) if is_image_name(name.rpartition("/")[2]) else name for name in column.to_pylist()], pa.string()
    )


def _own_key(schema: Any) -> str | None:
    return next(
        (name for name in ("key", "__key__") if name in schema.names and _is_text(schema.field(name).type)), None
    )


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
