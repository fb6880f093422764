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
    "Delivery": "plada.payload.sender",
    "EncoderSpec": "plada.encoders.spec",
    "Index": "plada.retrieval.index",
    "Corrections": "plada.selection.corrections",
    "Model": "plada.trainer.model",
    "ModelTest": "plada.reports.collect",
    "NetworkSpec": "plada.networks.network",
    "Outlets": "plada.trainer.catalogue.outlets",
    "PackSpec": "plada.indexer.pack",
    "Payload": "plada.api.payload",
    "PladaError": "plada.errors",
    "ReadOptions": "plada.trainer.payload_file",
    "ReferenceCopy": "plada.trainer.payload_images",
    "RuleSpec": "plada.selection.choose",
    "RunOptions": "plada.trainer.run",
    "PaperTables": "plada.api.bench",
    "Selection": "plada.api.select",
    "TeacherSpec": "plada.labeler.teachers",
    "apply_diff": "plada.api.diff",
    "bench": "plada.api.bench",
    "cache": "plada.api.keeping.cache",
    "config": "plada.api.settings.config",
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
    "indexes": "plada.api.keeping.indexes",
    "inspect": "plada.api.inspect",
    "install_pack": "plada.api.pack",
    "keygen": "plada.api.sign",
    "known_encoders": "plada.api.settings.encoders",
    "load_model": "plada.trainer.model",
    "make_ann": "plada.api.search",
    "make_pack": "plada.api.pack",
    "open_images": "plada.api.datasets",
    "open_index": "plada.retrieval.index",
    "predict": "plada.api.predict",
    "publish": "plada.api.catalogue.publish",
    "pull": "plada.api.catalogue.pull",
    "read_payload": "plada.api.payload",
    "report": "plada.api.report",
    "search": "plada.api.search",
    "select": "plada.api.select",
    "sign": "plada.api.sign",
    "train": "plada.api.train",
    "verify": "plada.api.verify",
    "watch": "plada.api.catalogue.pull",
    "write_logits": "plada.labeler.teachers",
    "write_payload": "plada.api.payload",
}
__all__ = sorted(_WHERE)

if TYPE_CHECKING:  # the same names for type checkers; tests/test_public.py compares
    from plada.api.bench import PaperTables as PaperTables
    from plada.api.bench import bench as bench
    from plada.api.catalogue.publish import publish as publish
    from plada.api.catalogue.pull import pull as pull
    from plada.api.catalogue.pull import watch as watch
    from plada.api.datasets import datasets as datasets
    from plada.api.datasets import open_images as open_images
    from plada.api.demo import demo as demo
    from plada.api.diff import apply_diff as apply_diff
    from plada.api.diff import diff as diff
    from plada.api.doctor import doctor as doctor
    from plada.api.evaluate import evaluate as evaluate
    from plada.api.explore import explore as explore
    from plada.api.export import export as export
    from plada.api.index import forecast as forecast
    from plada.api.index import index as index
    from plada.api.inspect import inspect as inspect
    from plada.api.keeping.cache import cache as cache
    from plada.api.keeping.indexes import indexes as indexes
    from plada.api.pack import install_pack as install_pack
    from plada.api.pack import make_pack as make_pack
    from plada.api.payload import Payload as Payload
    from plada.api.payload import encoded_size as encoded_size
    from plada.api.payload import read_payload as read_payload
    from plada.api.payload import write_payload as write_payload
    from plada.api.predict import predict as predict
    from plada.api.report import report as report
    from plada.api.search import make_ann as make_ann
    from plada.api.search import search as search
    from plada.api.select import Selection as Selection
    from plada.api.select import select as select
    from plada.api.settings.config import config as config
    from plada.api.settings.encoders import known_encoders as known_encoders
    from plada.api.sign import keygen as keygen
    from plada.api.sign import sign as sign
    from plada.api.train import train as train
    from plada.api.verify import verify as verify
    from plada.encoders.spec import EncoderSpec as EncoderSpec
    from plada.errors import PladaError as PladaError
    from plada.indexer.pack import PackSpec as PackSpec
    from plada.labeler.teachers import TeacherSpec as TeacherSpec
    from plada.labeler.teachers import write_logits as write_logits
    from plada.networks.network import NetworkSpec as NetworkSpec
    from plada.payload.sender import Delivery as Delivery
    from plada.reports.collect import ModelTest as ModelTest
    from plada.retrieval.check import check_index as check_index
    from plada.retrieval.index import Index as Index
    from plada.retrieval.index import open_index as open_index
    from plada.selection.choose import RuleSpec as RuleSpec
    from plada.selection.corrections import Corrections as Corrections
    from plada.trainer.catalogue.outlets import Outlets as Outlets
    from plada.trainer.model import Model as Model
    from plada.trainer.model import load_model as load_model
    from plada.trainer.payload_file import ReadOptions as ReadOptions
    from plada.trainer.payload_images import ReferenceCopy as ReferenceCopy
    from plada.trainer.run import RunOptions as RunOptions


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'plada' has no attribute '{name}'")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
