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
    "apply_diff": "plada.updating",
    "bench": "plada.benching",
    "check_index": "plada.checking",
    "datasets": "plada.api",
    "demo": "plada.demonstration",
    "diff": "plada.updating",
    "doctor": "plada.diagnosis",
    "encoded_size": "plada.sending",
    "evaluate": "plada.predicting",
    "explore": "plada.exploring",
    "export": "plada.training",
    "forecast": "plada.indexing",
    "index": "plada.indexing",
    "inspect": "plada.inspecting",
    "install_pack": "plada.packing",
    "keygen": "plada.signing",
    "make_ann": "plada.searching",
    "make_pack": "plada.packing",
    "open_index": "plada.retrieval.index",
    "open_images": "plada.api",
    "predict": "plada.predicting",
    "read_payload": "plada.reading",
    "report": "plada.reporting",
    "search": "plada.searching",
    "select": "plada.selecting",
    "sign": "plada.signing",
    "train": "plada.training",
    "verify": "plada.verifying",
    "write_logits": "plada.teaching",
    "write_payload": "plada.sending",
}

if TYPE_CHECKING:
    from plada.api import datasets, open_images
    from plada.benching import bench
    from plada.checking import check_index
    from plada.demonstration import demo
    from plada.diagnosis import doctor
    from plada.errors import PladaError
    from plada.exploring import explore
    from plada.indexing import forecast, index
    from plada.inspecting import inspect
    from plada.packing import install_pack, make_pack
    from plada.payload.payload import Payload
    from plada.predicting import evaluate, predict
    from plada.reading import read_payload
    from plada.reporting import report
    from plada.retrieval.index import Index, open_index
    from plada.searching import make_ann, search
    from plada.selecting import select
    from plada.sending import encoded_size, write_payload
    from plada.signing import keygen, sign
    from plada.teaching import write_logits
    from plada.training import export, train
    from plada.updating import apply_diff, diff
    from plada.verifying import verify

__all__ = [
    "Index",
    "Payload",
    "PladaError",
    "apply_diff",
    "bench",
    "check_index",
    "datasets",
    "demo",
    "diff",
    "doctor",
    "encoded_size",
    "evaluate",
    "explore",
    "export",
    "forecast",
    "index",
    "inspect",
    "install_pack",
    "keygen",
    "make_ann",
    "make_pack",
    "open_images",
    "open_index",
    "predict",
    "read_payload",
    "report",
    "search",
    "select",
    "sign",
    "train",
    "verify",
    "write_logits",
    "write_payload",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'plada' has no attribute '{name}'")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
