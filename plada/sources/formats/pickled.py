"""A dictionary of plain values and NumPy arrays out of a pickle file, without running anything that the file names.

Old data sets are published so (CIFAR's "python version"). A pickle calls what it names. Here a handful of names stand for the
harmless classes below, every other name is refused, and arrays are made afterwards, from bytes whose number fits the shape.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.failures import first_line
from plada.errors import DataError
from plada.sources.formats.arrays import check_there

_MAX_FILE = 1 << 30  # bytes; the largest file of CIFAR has 155 MB
_TYPES = ("u1", "i4", "i8")


class _Kind:
    """Stands for numpy.dtype and keeps what it was called with."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name = name

    def __setstate__(self, _: Any) -> None: ...


class _Array:
    """Stands for numpy.ndarray and keeps its state."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def built(self) -> npt.NDArray[Any]:
        _, shape, kind, by_columns, data = self.state
        name = kind.name.decode() if isinstance(kind.name, bytes) else kind.name
        if name not in _TYPES:
            raise ValueError(f"an array of {name}")
        array: npt.NDArray[Any] = np.frombuffer(data, f"<{name}").reshape(shape, order="F" if by_columns else "C")
        return array


def _encoded(text: str, *_: Any) -> bytes:
    return text.encode("latin1")  # how protocol 2 writes bytes


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encoded,
}


# The one written in Python: the one in C sets aside as much memory as a number in the file says.
_Unpickler: Any = pickle._Unpickler


class _Reader(_Unpickler):  # type: ignore[misc]
    """A pickle machine that knows nothing but the names above."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise ValueError(f"it names {module}.{name}, which is not run here")
        return _KNOWN[module, name]

    def get_extension(self, code: int) -> None:
        raise ValueError(f"it names extension {code}, which is not run here")

    def persistent_load(self, pid: Any) -> None:
        raise ValueError(f"it refers to {str(pid)[:40]}, outside the file")


def read_pickled(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle, its keys as text. Raises DataError: damaged, too large, or with anything in it but
    plain values and arrays of whole numbers."""
    check_there(path)
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ValueError(f"{path.stat().st_size} bytes, expected at most {_MAX_FILE}")
        with path.open("rb") as file:
            content = _Reader(file, encoding="bytes").load()
        return {
            key.decode("utf-8") if isinstance(key, bytes) else str(key): value.built()
            if isinstance(value, _Array)
            else value
            for key, value in content.items()
        }
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror}). Unpack the archive again") from err
    except Exception as err:  # a damaged pickle raises almost anything
        raise DataError(
            f"{path}: not a pickle of plain arrays ({first_line(err)}). Unpack the archive again, or take the binary version"
        ) from err
