"""Croissant metadata (mlcommons.org/croissant, format 1.0) of an export in Hugging Face's layout: croissant.json beside its data."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plada.common.files import write_json
from plada.payload.payload import Payload

CROISSANT = "croissant.json"
_PARQUET = "application/x-parquet"
_CR = "http://mlcommons.org/croissant/"
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes",
    "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace",
    "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip


def write_croissant(payload: Payload, folder: Path, files: Sequence[str]) -> None:
    """Describe the Parquet files of an export, named relative to `folder`: each with its SHA-256, their columns, and the classes."""
    whole = {"fileSet": {"@id": "parquet"}}
    kinds = {"image": "sc:ImageObject", "label": "sc:Integer", "position": "sc:Integer", "key": "sc:Text"}
    columns = [_field(f"images/{name}", kind, {**whole, "extract": {"column": name}}) for name, kind in kinds.items()]
    columns[0]["source"]["transform"] = {"jsonPath": "bytes"}
    columns[1]["references"] = {"field": {"@id": "classes/label"}}
    classes = [{"classes/label": number, "classes/name": name} for number, name in enumerate(payload.classes)]
    about = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": f"{_CR}1.0",
        "name": _name(payload),
        "description": (
            f"{len(payload)} images of a reference collection of {payload.reference} images (key id {payload.key_id[:8].hex()}), with "
            f"pseudo-labels of {len(payload.classes)} classes, which a teacher gave. The images stay under the terms of that collection."
        ),
        "version": f"{max(payload.serial, 1)}.0.0",
        "distribution": [
            *(_file(folder, name) for name in files),
            {"@type": "cr:FileSet", "@id": "parquet", "encodingFormat": _PARQUET, "includes": "data/*.parquet"},
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "classes",
                "dataType": "sc:Enumeration",
                "key": {"@id": "classes/label"},
                "field": [_field("classes/label", "sc:Integer"), _field("classes/name", ["sc:Text", "sc:name"])],
                "data": classes,
            },
            {"@type": "cr:RecordSet", "@id": "images", "key": {"@id": "images/position"}, "field": columns},
        ],
    }
    write_json(folder / CROISSANT, about)


def _name(payload: Payload) -> str:
    target = payload.notes.get("target")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", target)[:100].strip("-") or "plada" if isinstance(target, str) else "plada"


def _file(folder: Path, name: str) -> dict[str, Any]:
    with (folder / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": _PARQUET, "sha256": digest,
    }  # fmt: skip


def _field(name: str, kind: str | list[str], source: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": name, "dataType": kind, **({"source": source} if source else {})}


def _context() -> dict[str, Any]:
    """The terms of the format, as its specification lists them."""
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        **{term: f"cr:{term}" for term in _TERMS},
        "conformsTo": "dct:conformsTo",
        "cr": _CR,
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "rai": f"{_CR}RAI/",
        "sc": "https://schema.org/",
    }
