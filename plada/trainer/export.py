"""The labelled set for other frameworks: a table of keys and labels, or a folder a class with the images."""

import csv
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plada.errors import RequestError
from plada.files import whole_file
from plada.payload.payload import Payload
from plada.progress import Report, Tracker, silent
from plada.sources.reference import Reference


def export_csv(payload: Payload, reference: Reference, out: Path, report: Report = silent) -> None:
    """Columns position, key, label, class."""
    with whole_file(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["position", "key", "label", "class"])
        writer.writerows(zip(*_columns(payload, reference).values(), strict=True))


def export_parquet(payload: Payload, reference: Reference, out: Path, report: Report = silent) -> None:
    """The same columns as Parquet."""
    with whole_file(out) as part:
        pq.write_table(pa.table(_columns(payload, reference)), part, compression="zstd")


def export_folder(payload: Payload, reference: Reference, out: Path, report: Report = silent) -> None:
    """out/CLASS/KEY.EXT, the stored bytes, each hashed again; every `/` of a key becomes `__`.

    Raises:
        RequestError: `out` is there already; a class name that cannot be a folder's.
    """
    if out.exists():
        raise RequestError(f"{out}: already there. Name a folder that does not exist yet")
    for name in payload.classes:
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise RequestError(f"class '{name}' cannot be a folder's name. Export to csv or parquet")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    tracker = Tracker("export", len(payload), report)
    for name in payload.classes:
        (part / name).mkdir(parents=True)
    columns = _columns(payload, reference)
    for position, key, name in zip(columns["position"], columns["key"], columns["class"], strict=True):
        data = reference.read(position)
        (part / name / (key.replace("/", "__") + _extension(data))).write_bytes(data)
        tracker.advance()
    part.rename(out)


EXPORTS: Mapping[str, Callable[[Payload, Reference, Path, Report], None]] = MappingProxyType(
    {"csv": export_csv, "parquet": export_parquet, "folder": export_folder}
)


def _columns(payload: Payload, reference: Reference) -> dict[str, Any]:
    labels = payload.labels.tolist()
    return {
        "position": payload.positions.tolist(),
        "key": reference.manifest.keys_at(payload.positions),
        "label": labels,
        "class": [payload.classes[label] for label in labels],
    }


_MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"P5\n": ".pgm", b"P6\n": ".ppm", b"BM": ".bmp"}


def _extension(data: bytes) -> str:
    """By content: names lie, and a framework's loader goes by the extension."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), ".tif")
