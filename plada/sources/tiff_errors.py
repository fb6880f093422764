"""What libtiff says of a damaged TIFF: it writes to standard error from C, past Python; here it is caught instead."""

import ctypes
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
# What leads over to a number in libtiff's messages; the numbers themselves are not looked at.
_TAIL = re.compile(r"((\s+(at|of|in|for|line|scanline|row|strip|tile))|[\s(,:;])+$")
_guard, _said = threading.Lock(), dict[int, list[str]]()  # by thread: those that decode at this moment
_before: list[Any] = []  # the handler that was there, while ours is


@lru_cache(maxsize=1)
def _set_handler() -> Any:
    """libtiff's TIFFSetErrorHandler in the library that PIL has brought; None where it is not found."""
    root = Path(PIL.__file__).parent
    for path in (*root.parent.glob("[Pp]illow.libs/libtiff*"), *root.glob(".dylibs/libtiff*")):
        try:
            function = ctypes.CDLL(str(path)).TIFFSetErrorHandler
        except (OSError, AttributeError):
            continue
        function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        return function
    return None


def _hear(module: bytes | None, text: bytes | None, values: int | None) -> None:
    said = _said.get(threading.get_ident())
    if said is not None:
        words = _TAIL.sub("", (text or b"").decode("latin-1").partition("%")[0])
        said.append(f"{(module or b'libtiff').decode('latin-1')}: {words or 'an error'}")
    elif _before and _before[0]:
        _HANDLER(_before[0])(module, text, values)  # another's TIFF


_HEAR = _HANDLER(_hear)


@contextmanager
def tiff_errors() -> Iterator[list[str]]:
    """A list that gets what libtiff says in this thread, which then does not reach standard error. The handler that was there
    comes back when the last thread is done."""
    own, said, set_handler = threading.get_ident(), list[str](), _set_handler()
    if set_handler is None:
        yield said
        return
    with _guard:
        if not _said:
            _before[:] = [set_handler(ctypes.cast(_HEAR, ctypes.c_void_p))]
        _said[own] = said
    try:
        yield said
    finally:
        with _guard:
            _said.pop(own, None)
            if not _said:
                set_handler(_before.pop())
