"""Teachers that plada did not train: a function of the user's, or a table of logits, which may say what it was made for."""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from plada.common.arrays import F32
from plada.common.failures import first_line
from plada.common.files import whole_file
from plada.errors import DataError, ReferenceMismatch, RequestError
from plada.labeler.teacher import PICTURES, POSITIONS, Teacher, checked_logits

# Entries of a table's Parquet metadata: the images it was made of, and the encoder whose embeddings it was made from.
CLAIMS = ("plada.key_id", "plada.content_id", "plada.encoder")
_NO_CLAIMS: Mapping[str, str] = MappingProxyType({})
_PLACES = ("position", "key")  # columns that are no classes


def function_teacher(name: str, classes: int) -> Teacher:
    """`module:function`: called with a list of n PIL images (RGB), it gives logits [n, classes], classes in the order of
    the target's. The module is looked for in the working directory, too.

    Raises:
        RequestError: it cannot be imported, or is no function.
    """
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        loaded: Any = importlib.import_module(module)
    except ImportError as err:
        raise RequestError(f"teacher {name}: module '{module}' cannot be imported ({err}). Is it in {here}?") from err
    finally:
        sys.path.remove(here)
    function = getattr(loaded, attribute, None)
    if not callable(function):
        raise RequestError(f"teacher {name}: module '{module}' has no function '{attribute}'")
    return Teacher(kind=name, classes=classes, needs=PICTURES, logits=function)


def table_teacher(
    path: Path,
    classes: tuple[str, ...],
    images: int,
    keys: Callable[[], Any],
    claims: Mapping[str, str] = _NO_CLAIMS,
) -> Teacher:
    """Logits for every image of the reference, made elsewhere: a .npy file [N, classes] in order of position, or a Parquet
    file with a column `position` or `key` and a column for each class, by its name. `keys` gives the reference's keys.
    `claims` are the index's own, by the names of CLAIMS. A Parquet file that claims something else is refused; one that
    claims nothing, or a .npy, is believed.

    Raises:
        RequestError: no such file, another kind of file.
        DataError: another number of images, a class without a column, an image twice or not at all, bad logits.
        ReferenceMismatch: the table says that it was made for other images or another encoder.
    """
    if not path.is_file():
        raise RequestError(f"teacher {path}: no such table of logits")
    if path.suffix == ".npy":
        try:
            logits = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as err:
            raise DataError(f"teacher {path}: not an array of numbers ({err})") from err
        if logits.ndim != 2 or logits.shape[0] != images:
            raise DataError(
                f"teacher {path}: an array of shape {logits.shape}, expected ({images}, {len(classes)}): one row for each "
                "image of the reference, by position"
            )
    elif path.suffix == ".parquet":
        logits = _from_parquet(path, classes, images, keys, claims)
    else:
        raise RequestError(f"teacher {path}: a table of logits is a .npy or a .parquet file")
    name = f"table:{path.name}"
    if logits.shape[1] != len(classes):
        checked_logits(name, np.zeros((1, logits.shape[1]), np.float32), 1, len(classes))
    return Teacher(
        kind=name, classes=len(classes), needs=POSITIONS, logits=lambda rows: np.asarray(logits[rows], np.float32)
    )


def write_table_of_logits(logits: Any, classes: tuple[str, ...], path: Path, claims: Mapping[str, str]) -> None:
    """Write logits [N, classes] by position as Parquet: what `table_teacher` reads. `claims` go to the metadata.

    Raises:
        RequestError: a class is called as the columns of places are, or two have one name.
        DataError: no numbers [N, classes], or not finite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    bad = [name for name in classes if name in _PLACES] or [name for name in classes if classes.count(name) > 1]
    if bad:
        raise RequestError(f"{path}: a table of logits cannot have a column for the class '{bad[0]}'. Use a .npy file")
    checked = checked_logits(path.name, logits, len(logits), len(classes))
    columns = {"position": np.arange(len(checked)), **{name: checked[:, at] for at, name in enumerate(classes)}}
    table = pa.table(columns).replace_schema_metadata(dict(claims))
    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd")


def _check_claims(path: Path, metadata: Mapping[bytes, bytes], claims: Mapping[str, str]) -> None:
    for name in CLAIMS:
        claimed = metadata.get(name.encode(), b"").decode(errors="replace")
        if claimed and name in claims and claimed != claims[name]:
            what = "from embeddings of another encoder" if name == "plada.encoder" else "for other images"
            raise ReferenceMismatch(
                f"teacher {path}: its logits were made {what} ({name} {_short(claimed)}, the index has "
                f"{_short(claims[name])}). Make them again with this index, or take the index they were made for",
                wanted=claimed, found=claims[name],
            )  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _from_parquet(
    path: Path, classes: tuple[str, ...], images: int, keys: Callable[[], Any], claims: Mapping[str, str]
) -> F32:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as err:
        raise DataError(f"teacher {path}: not a Parquet file ({first_line(err)})") from err
    _check_claims(path, table.schema.metadata or {}, claims)
    missing = [name for name in classes if name not in table.column_names]
    if missing:
        raise DataError(f"teacher {path}: has no column '{missing[0]}'; expected one for each class of the target")
    if "position" in table.column_names:
        rows = np.asarray(table["position"]).astype(np.int64)
    elif "key" in table.column_names:
        places = pc.index_in(table["key"], value_set=pa.array(keys()) if not hasattr(keys(), "type") else keys())
        if places.null_count:
            first = table["key"].filter(pc.is_null(places))[0].as_py()
            raise DataError(f"teacher {path}: the reference has no image '{first}'")
        rows = np.asarray(places).astype(np.int64)
    else:
        raise DataError(f"teacher {path}: has neither a column 'position' nor 'key'")
    if len(rows) != images or len(np.unique(rows)) != images or rows.min() < 0 or rows.max() >= images:
        raise DataError(f"teacher {path}: {len(rows)} rows, expected each of the reference's {images} images once")
    logits = np.empty((images, len(classes)), np.float32)
    for column, name in enumerate(classes):
        logits[rows, column] = np.asarray(table[name]).astype(np.float32)
    return logits
