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

from plada.common.version import __version__ as __version__

_WHERE = {
    "NetworkSpec": "plada.networks.network",
    "Delivery": "plada.payload.sender",
    "Index": "plada.retrieval.index",
    "PaperTables": "plada.api.bench",
    "Payload": "plada.payload.payload",
    "PladaError": "plada.errors",
    "ReadOptions": "plada.trainer.payload_file",
    "ReferenceCopy": "plada.trainer.payload_images",
    "RunOptions": "plada.trainer.run",
    "apply_diff": "plada.api.diff",
    "bench": "plada.api.bench",
    "check_index": "plada.retrieval.check",
    "datasets": "plada.api.datasets",
    "demo": "plada.api.demo",
    "diff": "plada.api.diff",
    "doctor": "plada.api.doctor",
    "encoded_size": "plada.api.payload",
    "evaluate": "plada.api.evaluate",
    "explore": "plada.api.explore",
    "export": "plada.api.export",
    "forecast": "plada.api.index",
    "index": "plada.api.index",
    "inspect": "plada.api.inspect",
    "install_pack": "plada.api.pack",
    "keygen": "plada.api.sign",
    "make_ann": "plada.api.search",
    "make_pack": "plada.api.pack",
    "open_index": "plada.retrieval.index",
    "open_images": "plada.api.datasets",
    "predict": "plada.api.predict",
    "read_payload": "plada.api.payload",
    "report": "plada.api.report",
    "search": "plada.api.search",
    "select": "plada.api.select",
    "sign": "plada.api.sign",
    "train": "plada.api.train",
    "verify": "plada.api.verify",
    "write_logits": "plada.labeler.teachers",
    "write_payload": "plada.api.payload",
}

if TYPE_CHECKING:
    from plada.api.bench import PaperTables, bench
    from plada.api.datasets import datasets, open_images
    from plada.api.demo import demo
    from plada.api.diff import apply_diff, diff
    from plada.api.doctor import doctor
    from plada.api.evaluate import evaluate
    from plada.api.explore import explore
    from plada.api.export import export
    from plada.api.index import forecast, index
    from plada.api.inspect import inspect
    from plada.api.pack import install_pack, make_pack
    from plada.api.payload import encoded_size, read_payload, write_payload
    from plada.api.predict import predict
    from plada.api.report import report
    from plada.api.search import make_ann, search
    from plada.api.select import select
    from plada.api.sign import keygen, sign
    from plada.api.train import train
    from plada.api.verify import verify
    from plada.errors import PladaError
    from plada.labeler.teachers import write_logits
    from plada.networks.network import NetworkSpec
    from plada.payload.payload import Payload
    from plada.payload.sender import Delivery
    from plada.retrieval.check import check_index
    from plada.retrieval.index import Index, open_index
    from plada.trainer.payload_file import ReadOptions
    from plada.trainer.payload_images import ReferenceCopy
    from plada.trainer.run import RunOptions

__all__ = [
    "Delivery",
    "Index",
    "NetworkSpec",
    "PaperTables",
    "Payload",
    "PladaError",
    "ReadOptions",
    "ReferenceCopy",
    "RunOptions",
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
