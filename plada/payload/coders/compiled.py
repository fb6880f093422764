"""The models' functions, compiled by numba where it is installed. The plain ones give the same bytes, some 50 times slower.

Each module of such functions is loaded a second time, and the functions of this copy are compiled. So there is one source
(tests/payload/coders/test_compiled.py compares the bytes).
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from plada.payload.coders import arithmetic, block_model, pack_model, tables

_CODING = (arithmetic, block_model, pack_model)  # each may use what is before it
_WORTH = 4_000_000  # steps, some seconds of them: from there on it pays to compile, or to load what was compiled
_PREFIX = "plada.payload."


@dataclass(frozen=True, slots=True)
class Functions:
    """The modules whose functions to call, and whether these are compiled."""

    arithmetic: Any
    block_model: Any
    pack_model: Any
    compiled: bool


def functions(steps: int) -> Functions:
    """The functions that finish so many steps first: compiled ones, unless the work is small and nothing is compiled yet."""
    twins = _twins(steps)
    coder, blocks, packs = twins.values() or _CODING
    return Functions(coder, blocks, packs, compiled=bool(twins))


def _twins(steps: int) -> dict[str, ModuleType]:
    return _compiled() if steps >= _WORTH or _compiled.cache_info().currsize else {}


def vector(values: Any, compiled: bool) -> Any:
    """A copy of whole numbers as the functions want them: int64 if compiled, a list if not."""
    return np.array(values, np.int64) if compiled else np.asarray(values, np.int64).tolist()


@cache
def coding_tables(compiled: bool) -> Any:
    """SQ, ST, LN, NB."""
    wanted = (tables.squash(), tables.stretch(), tables.logarithm(), tables.negative_binomial())
    return tuple(np.array(table, np.int64) for table in wanted) if compiled else wanted


@cache
def _compiled() -> dict[str, ModuleType]:
    try:
        import numba
    except ImportError:  # not installed, or not for this machine: the plain functions do it
        return {}
    done: dict[str, ModuleType] = {}
    with _cache_folder(numba) as cached:
        for module in _CODING:
            spec = importlib.util.spec_from_file_location(
                f"{_PREFIX}_compiled_{module.__name__.removeprefix(_PREFIX)}", module.__file__
            )
            assert spec is not None and spec.loader is not None
            twin = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = twin  # what was compiled and kept looks for it here
            spec.loader.exec_module(twin)
            for name, value in list(vars(twin).items()):
                if isinstance(value, FunctionType) and value.__module__ == twin.__name__:
                    setattr(twin, name, numba.njit(cache=cached)(value))
                elif isinstance(value, FunctionType) and value.__module__ in done:
                    setattr(twin, name, vars(done[value.__module__])[name])
            done[module.__name__] = twin
    return done


@contextmanager
def _cache_folder(numba: Any) -> Iterator[bool]:
    """Keeps compiled code beside Python's own, in a folder named by the digest of all sources: numba alone would not see a
    change in a module that another one uses. Where the folder cannot be written, nothing is kept."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (*_CODING, tables)]
    digest = hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]
    folder = Path(__file__).parent / "__pycache__" / f"numba-{digest}"
    before = numba.config.CACHE_DIR
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".written").touch()
    except OSError:
        yield False
        return
    numba.config.CACHE_DIR = str(folder)
    try:
        yield True
    finally:
        numba.config.CACHE_DIR = before
