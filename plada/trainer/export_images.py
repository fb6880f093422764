"""Exports with images: a folder for each class, WebDataset shards, TFRecords, and Parquet in Hugging Face's layout.

Every image is hashed again when it is read. The output is written under another name and renamed when it is complete.
"""

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plada.common.outputs import whole_folder
from plada.common.packages import require
from plada.common.progress import Report, Tracker
from plada.common.text import csv_cell
from plada.errors import RequestError, Unreadable
from plada.payload.payload import Payload
from plada.sources.formats.folder import FolderCollection
from plada.sources.names import MAX_PART, fault_of, shortened
from plada.sources.storage import LocalFiles
from plada.trainer.croissant import write_croissant
from plada.trainer.payload_images import PayloadImages
from plada.trainer.tfrecord import example, record

_SHARD = 4096  # images in a file
_CUT = 200  # bytes that stay of a name that is too long for a file
_READERS, _AHEAD = 8, 256  # threads that read and hash, and images that they read before one is written
_ROWS = 128  # images of a Parquet row group: a reader holds one in memory
_MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp"}
_NETPBM = {
    **dict.fromkeys((b"P1", b"P4"), ".pbm"), **dict.fromkeys((b"P2", b"P5"), ".pgm"),
    **dict.fromkeys((b"P3", b"P6"), ".ppm"), **dict.fromkeys((b"Pf", b"PF"), ".pfm"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """One labelled image: its stored bytes, and the file extension of their format."""

    position: int
    key: str
    label: int
    name: str
    data: bytes
    suffix: str


def export_folder(payload: Payload, images: PayloadImages, out: Path, report: Report, link: bool) -> None:
    """out/CLASS/KEY.EXT, the stored bytes or links to them; every `/` of a key becomes `__`. metadata.csv gives
    position, key, label and class of each file; Hugging Face's imagefolder reads it too. Raises RequestError: `out` is
    there already; a class name that cannot be a folder's; links to images that are no files."""
    for name in payload.classes:
        if not name or "/" in name or "\\" in name or fault_of(name):
            raise RequestError(
                f"class '{shortened(name)}' cannot be a folder's name. Export to csv, parquet, hf or webdataset"
            )
    if link:
        _check_linkable(images)
    with whole_folder(out) as part, (part / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "position", "key", "label", "class"])
        for item in _items(payload, images, report):
            stem = item.key.replace("/", "__").replace("\0", "_")
            if len(f"{stem}{item.suffix}".encode()) > MAX_PART:  # of a key of many folders
                stem = f"{stem.encode()[:_CUT].decode(errors='ignore')}-{item.position}"
            path = part / item.name / f"{stem}{item.suffix}"
            path.parent.mkdir(exist_ok=True)
            if path.exists():  # a__b and a/b
                path = path.with_name(f"{stem}-{item.position}{item.suffix}")
            if link:
                path.symlink_to(_file_of(images, item.position))
            else:
                path.write_bytes(item.data)
            place = f"{item.name}/{path.name}"
            place = place if csv_cell(place) == place else f"./{place}"  # loaders of folders open it
            table.writerow([place, item.position, csv_cell(item.key), item.label, csv_cell(item.name)])


def export_webdataset(payload: Payload, images: PayloadImages, out: Path, report: Report, _: bool) -> None:
    """Shards out/000000.tar, ...: each sample is POSITION.EXT, POSITION.cls (the label) and POSITION.json (all four).

    The position is the sample's key, since WebDataset cuts names at their first dot. Times and owners are zero: the same
    payload gives the same bytes.
    """
    with whole_folder(out) as part:
        for number, items in enumerate(_shards(payload, images, report)):
            with tarfile.open(part / f"{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                for item in items:
                    about = {"position": item.position, "key": item.key, "label": item.label, "class": item.name}
                    files = {
                        item.suffix: item.data,
                        ".cls": str(item.label).encode(),
                        ".json": json.dumps(about, ensure_ascii=False, sort_keys=True).encode(),
                    }
                    for suffix, data in files.items():
                        entry = tarfile.TarInfo(f"{item.position:09d}{suffix}")
                        entry.size = len(data)
                        tar.addfile(entry, io.BytesIO(data))


def export_tfrecord(payload: Payload, images: PayloadImages, out: Path, report: Report, _: bool) -> None:
    """Files out/000000.tfrecord, ... of tf.train.Example: image (stored bytes), label, class, position, key. Raises
    MissingExtra: google-crc32c is not installed."""
    require("google_crc32c", extra="tfrecord", purpose="an export to tfrecord")
    with whole_folder(out) as part:
        for number, items in enumerate(_shards(payload, images, report)):
            with (part / f"{number:06d}.tfrecord").open("wb") as file:
                for item in items:
                    features: dict[str, bytes | int] = {
                        "image": item.data,
                        "label": item.label,
                        "class": item.name.encode(),
                        "position": item.position,
                        "key": item.key.encode(),
                    }
                    file.write(record(example(features)))


def export_hf(payload: Payload, images: PayloadImages, out: Path, report: Report, _: bool) -> None:
    """out/data/train-00000-of-0000N.parquet as `datasets` writes it: image {bytes, path}, label (a ClassLabel), position, key.
    Its description for other tools is out/croissant.json.

    The name of a class is in the features that the files carry.
    """
    schema = _hf_schema(payload.classes)
    with whole_folder(out) as part:
        (part / "data").mkdir()
        written: list[Path] = []
        for number, items in enumerate(_shards(payload, images, report)):
            written.append(part / "data" / f"{number}.parquet")
            with pq.ParquetWriter(written[-1], schema, compression="none") as writer:  # images are compressed already
                for rows in _batched(items, _ROWS):
                    columns = {
                        "image": [{"bytes": item.data, "path": f"{item.key}{item.suffix}"} for item in rows],
                        "label": [item.label for item in rows],
                        "position": [item.position for item in rows],
                        "key": [item.key for item in rows],
                    }
                    writer.write_table(pa.table(columns, schema=schema))
        names = [f"data/train-{number:05d}-of-{len(written):05d}.parquet" for number in range(len(written))]
        for path, name in zip(written, names, strict=True):
            path.rename(part / name)
        write_croissant(payload, part, names)


def _hf_schema(classes: tuple[str, ...]) -> Any:
    value = {"_type": "Value"}
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "position": {"dtype": "int64", **value},
        "key": {"dtype": "string", **value},
    }
    about = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    picture = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    fields = {"image": picture, "label": pa.int64(), "position": pa.int64(), "key": pa.string()}
    return pa.schema([pa.field(name, kind) for name, kind in fields.items()], {"huggingface": about})


def _items(payload: Payload, images: PayloadImages, report: Report) -> Iterator[ExportedImage]:
    """The images in order of position. Lost ones are left out or, after all were read, refused. Raises
    ReferenceMismatch: some are missing or changed, and may not be skipped."""
    tracker = Tracker("export", len(payload), report)
    keys = images.manifest.keys_at(payload.positions)

    def read(position: int) -> bytes | None:
        try:
            return images.read(position)
        except Unreadable:
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(payload), _AHEAD):
            some = slice(start, start + _AHEAD)
            positions, labels = payload.positions[some].tolist(), payload.labels[some].tolist()
            for position, key, label, data in zip(
                positions, keys[some], labels, pool.map(read, positions), strict=True
            ):
                tracker.advance()
                if data is not None:
                    yield ExportedImage(position, key, label, payload.classes[label], data, extension(data))
    images.refuse_lost()


def _shards(payload: Payload, images: PayloadImages, report: Report) -> Iterator[Iterator[ExportedImage]]:
    """The images in groups of _SHARD; each group must be consumed before the next one is taken."""
    items = _items(payload, images, report)
    for first in items:

        def shard(first: ExportedImage = first) -> Iterator[ExportedImage]:
            yield first
            yield from (item for _, item in zip(range(_SHARD - 1), items, strict=False))

        yield shard()


def _batched(items: Iterator[ExportedImage], size: int) -> Iterator[list[ExportedImage]]:
    for first in items:
        yield [first, *(item for _, item in zip(range(size - 1), items, strict=False))]


def _check_linkable(images: PayloadImages) -> None:
    if not isinstance(images.collection, FolderCollection) or not isinstance(images.collection.files, LocalFiles):
        raise RequestError(
            f"{images.location}: its images are no files of their own here, so none can be linked to. Leave out --link"
        )


def _file_of(images: PayloadImages, position: int) -> Path:
    """The file of an image in a folder on this machine."""
    collection = images.collection
    assert isinstance(collection, FolderCollection)
    assert isinstance(collection.files, LocalFiles)
    place = images.place_of(position)
    suffix = collection.listing.parts[collection.listing.part_of[place]]
    return collection.files.root / f"{collection.listing.keys[place]}{suffix}"


def extension(data: bytes) -> str:
    """The extension of an image's format, by its content: file names may lie, and loaders go by the extension."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return ".avif"
    if data[2:3].isspace() and data[:2] in _NETPBM:
        return _NETPBM[data[:2]]
    return next((suffix for magic, suffix in _MAGIC.items() if data.startswith(magic)), ".tif")
