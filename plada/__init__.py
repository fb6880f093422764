"""plada: a dataset is worth 1 MB. Ship a classification task as labels for images that every client already holds.

    import plada

    plada.index("glyphs")
    index = plada.open_index("glyphs")
    selection = plada.select(index, target="digits", budget="2kB", out="digits.plada")
    plada.train("digits.plada", reference="glyphs", student="small_cnn", target="digits")

Names are loaded on first use, so that `import plada` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Index": "plada.retrieval.index",
    "Payload": "plada.payload.payload",
    "PladaError": "plada.errors",
    "check_index": "plada.checking",
    "datasets": "plada.api",
    "demo": "plada.demonstration",
    "doctor": "plada.diagnosis",
    "evaluate": "plada.predicting",
    "export": "plada.training",
    "forecast": "plada.indexing",
    "index": "plada.indexing",
    "inspect": "plada.api",
    "install_pack": "plada.packing",
    "make_ann": "plada.searching",
    "make_pack": "plada.packing",
    "open_index": "plada.retrieval.index",
    "open_images": "plada.api",
    "predict": "plada.predicting",
    "read_payload": "plada.payload.payload",
    "search": "plada.searching",
    "select": "plada.api",
    "train": "plada.training",
    "verify": "plada.verifying",
}

if TYPE_CHECKING:
    from plada.api import datasets, inspect, open_images, select
    from plada.checking import check_index
    from plada.demonstration import demo
    from plada.diagnosis import doctor
    from plada.errors import PladaError
    from plada.indexing import forecast, index
    from plada.packing import install_pack, make_pack
    from plada.payload.payload import Payload, read_payload
    from plada.predicting import evaluate, predict
    from plada.retrieval.index import Index, open_index
    from plada.searching import make_ann, search
    from plada.training import export, train
    from plada.verifying import verify

__all__ = [
    "Index",
    "Payload",
    "PladaError",
    "check_index",
    "datasets",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "forecast",
    "index",
    "inspect",
    "install_pack",
    "make_ann",
    "make_pack",
    "open_images",
    "open_index",
    "predict",
    "read_payload",
    "search",
    "select",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'plada' has no attribute '{name}'")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
