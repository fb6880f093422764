"""The labelled images in the formats of other frameworks (docs/clients.md).

Each carries position, key, label (the number) and class (its name) of every image, exactly as the payload has them.
"""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plada.common.files import whole_file
from plada.common.progress import Report
from plada.common.text import csv_cell
from plada.payload.payload import Payload
from plada.trainer.export_images import export_folder, export_hf, export_tfrecord, export_webdataset
from plada.trainer.payload_images import PayloadImages

Export = Callable[[Payload, PayloadImages, Path, Report, bool], None]  # the last one asks for links instead of copies


def export_csv(payload: Payload, images: PayloadImages, out: Path, _: Report, __: bool) -> None:
    """Columns position, key, label, class; text that a spreadsheet would take for a formula has an apostrophe before it."""
    with whole_file(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["position", "key", "label", "class"])
        columns = _columns(payload, images)
        for name in ("key", "class"):
            columns[name] = [csv_cell(text) for text in columns[name]]
        writer.writerows(zip(*columns.values(), strict=True))


def export_parquet(payload: Payload, images: PayloadImages, out: Path, _: Report, __: bool) -> None:
    """The same columns as Parquet."""
    with whole_file(out) as part:
        pq.write_table(pa.table(_columns(payload, images)), part, compression="zstd")


EXPORTS: Mapping[str, Export] = MappingProxyType(
    {
        "csv": export_csv,
        "parquet": export_parquet,
        "folder": export_folder,
        "webdataset": export_webdataset,
        "tfrecord": export_tfrecord,
        "hf": export_hf,
    }
)


def _columns(payload: Payload, images: PayloadImages) -> dict[str, Any]:
    labels = payload.labels.tolist()
    return {
        "position": payload.positions.tolist(),
        "key": images.manifest.keys_at(payload.positions),
        "label": labels,
        "class": [payload.classes[label] for label in labels],
    }
