"""Tar files read in place, never unpacked: one tar a synset, as the official ImageNet-21K comes, or WebDataset shards.

The two differ in where a key comes from. In a tar of a synset it is TAR NAME/MEMBER without both extensions; in a shard it
is the member's path up to the first dot of its file name, and the shard's name says nothing.
"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plada.common.arrays import I64
from plada.common.progress import Report, silent
from plada.errors import DataError
from plada.sources.collection import IMAGE_SUFFIXES, is_image_name
from plada.sources.formats.listing import ListedCollection, Listing, ListingWriter, load_listing, settled
from plada.sources.formats.tar_members import Members, walk_tar
from plada.sources.storage import LITTER, Files, LocalFiles, slug, walk

_SYNSET = re.compile(r"n\d{8}$")
_SHARD = re.compile(r"(^|[^A-Za-z0-9])\d+$")
_IMAGE = r"(?i)[^/]\.(" + "|".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES)) + r")$"
_SIDECARS = frozenset(["cls", "cls2", "id", "index", "json", "txt", "npy", "__key__"])  # WebDataset's usual fields
_WINDOW, _REMOTE_WINDOW = 1 << 18, 8 << 20  # bytes of one read when images are streamed: a cache's, a request's worth
_GAP = 1 << 16  # bytes between two images that are read along rather than skipped
_ALONE = 1 << 15  # bytes from which a local image is read by itself: copying it out of a window would cost more
_WALKERS = 4


@dataclass(frozen=True, slots=True)
class TarCollection(ListedCollection):
    """Images inside tar files; `form` is tars (one a synset) or webdataset."""

    files: Files
    form: str

    def read(self, position: int) -> bytes:
        listing = self.listing
        size = int(listing.sizes[position])
        path = listing.parts[listing.part_of[position]]
        data = self.files.read(path, int(listing.offsets[position]), size)
        if len(data) != size:
            raise self._shorter(path, position)
        return data

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        listing = self.listing
        parts, offsets, sizes = (array[start:stop] for array in (listing.part_of, listing.offsets, listing.sizes))
        order = np.lexsort((offsets, parts))
        ends = (offsets + sizes)[order]
        most = _REMOTE_WINDOW if self.files.remote else _WINDOW
        begins, tars = offsets[order], parts[order]
        # A window ends where the tar does, where a gap is too wide, or where it is full.
        breaks = np.flatnonzero((tars[1:] != tars[:-1]) | (begins[1:] - ends[:-1] > _GAP)) + 1
        for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(order)], strict=True):
            while first < last:
                if not self.files.remote and ends[first] - begins[first] >= _ALONE:
                    position = start + int(order[first])
                    yield position, self.read(position)
                    first += 1
                    continue
                full = int(np.searchsorted(ends[first:last], begins[first] + most, side="right"))
                upto = first + max(full, 1)
                base, path = int(begins[first]), listing.parts[tars[first]]
                window = self.files.read(path, base, int(ends[upto - 1]) - base)
                if len(window) != ends[upto - 1] - base:
                    raise self._shorter(path, start + int(order[upto - 1]))
                spans = zip(
                    order[first:upto].tolist(), begins[first:upto].tolist(), ends[first:upto].tolist(), strict=True
                )
                for row, begin, end in spans:
                    yield start + row, window[begin - base : end - base]
                first = upto

    def _shorter(self, path: str, position: int) -> DataError:
        return DataError(
            f"{self.files.show(path)}: ends inside {self.listing.keys[position]}; it is shorter than when listed. "
            "Restore the file"
        )


def open_tars(
    root: Path | Files, *, form: str | None = None, only: str = "", cache: Path | None = None, report: Report = silent
) -> TarCollection:
    """List the tars below a root, at any depth, by walking their headers; `only` names a single one.

    `form` is tars or webdataset; None tells them apart (`form_of_tars`). A large listing is kept below `cache` and used
    again while no tar has changed.

    Raises:
        DataError: no image, two images with one key, images beside tars, a tar that is cut, concatenated or no tar.
    """
    files = LocalFiles(root.absolute()) if isinstance(root, Path) else root
    start = time.time_ns()
    tars = {path: entry for path, entry in shards(files, ".tar") if not only or path == only}
    stamps = {path: f"{entry.size}:{entry.stamp}" for path, entry in tars.items()}
    young = settled({path: entry.stamp for path, entry in tars.items()}, start)
    location = (f"{form}:" if form else "") + (files.show(only) if only else files.location)
    kept = cache / slug(location) if cache is not None else None
    note = {"form": form, "shards": stamps if young or not tars else {}}
    if kept is not None and note["shards"]:
        listing = load_listing(kept, lambda saved: {name: saved.get(name) for name in note} == note, report)
        if listing is not None:
            return TarCollection(location, listing, files, form or _form_of(files, tars, listing))
    paths = tuple(sorted(tars, key=lambda path: path.removesuffix(".tar") + "/"))
    walked = _walk_all(files, [(path, tars[path].size) for path in paths])
    first = list(islice(walked, 1))
    chosen = form or (form_of_tars(paths, first[0][1]) if first else "tars")
    with ListingWriter(location, folder=kept, place=lambda part, at, key: f"{part} ({key}, byte {at})") as writer:
        for number, members in chain(first, walked):
            images = image_rows(members.names)
            if len(images):
                names = members.names.take(pa.array(images))
                keys = _keys(names, _prefix(paths[number], names), chosen)
                writer.add_rows(keys, members.sizes[images], number, members.offsets[images])
        return TarCollection(location, writer.finish(paths, note), files, chosen)


def shards(files: Files, suffix: str) -> Iterator[tuple[str, Any]]:
    """(path, entry) of every shard below a root. Raises DataError: images lie beside them: it is not clear which of the
    two is meant."""
    for path, entry in walk(files):
        if entry.is_folder:
            continue
        if entry.name.endswith(suffix):
            yield path, entry
        elif is_image_name(entry.name):
            raise DataError(
                f"{files.location}: holds {suffix[1:]} files and also {path}; only one of them can be the collection. "
                "Move one away"
            )


def form_of_tars(paths: tuple[str, ...], members: Members) -> str:
    """tars or webdataset, from the names of all tars and the members of the first.

    Tars named like synsets (n01443537) are such. Names that end in a number of their own (shard-000012, 00012) are
    shards, and so are tars in which images have companions of the same name (.cls, .json, .txt). All else is a tar a class.
    """
    stems = [path.rpartition("/")[2].removesuffix(".tar") for path in paths]
    if all(_SYNSET.match(stem) for stem in stems):
        return "tars"
    if all(_SHARD.search(stem) for stem in stems):
        return "webdataset"
    images = set(_keys(members.names.take(pa.array(image_rows(members.names))), "", "webdataset").to_pylist())
    others = (name for name in members.names.to_pylist() if name.rpartition(".")[2] in _SIDECARS)
    return "webdataset" if any(_sample_key(name) in images for name in others) else "tars"


def image_rows(names: Any) -> I64:
    """Which of some paths (pyarrow string array) are images that count: known extension, nothing hidden on the way."""
    counts = pc.and_not(
        pc.match_substring_regex(names, _IMAGE), pc.match_substring_regex(names, rf"(^|/)(\.|{LITTER}/)")
    )
    return np.flatnonzero(counts.to_numpy(zero_copy_only=False))


def _keys(names: Any, prefix: str, form: str) -> Any:
    """Keys of image members: without the extension in a synset's tar, up to the first dot of the file name in a shard."""
    if form == "webdataset":
        return pc.replace_substring_regex(names, r"\.[^/]*$", "")
    keys = pc.replace_substring_regex(names, r"\.[^./]*$", "")
    return pc.binary_join_element_wise(pa.scalar(prefix), keys, "") if prefix else keys


def _sample_key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _prefix(path: str, names: Any) -> str:
    """What keys of a synset's tar begin with; nothing more where its images (paths, a pyarrow string array) lie in a folder
    of its name. Members that are no images have no say: a README, or what macOS adds."""
    whole = path.removesuffix(".tar")
    folder, _, stem = whole.rpartition("/")
    if len(names) and pc.all(pc.starts_with(names, stem + "/")).as_py():
        return f"{folder}/" if folder else ""
    return whole + "/"


def _form_of(files: Files, tars: dict[str, Any], listing: Listing) -> str:
    path = listing.parts[0]
    return form_of_tars(listing.parts, walk_tar(files, path, tars[path].size))


def _walk_all(files: Files, tars: list[tuple[str, int]]) -> Iterator[tuple[int, Members]]:
    """(number, members) of each tar in turn; a few are walked at a time, since each waits for the disk."""
    with ThreadPoolExecutor(_WALKERS) as pool:
        ahead = iter(tars)
        waiting = [pool.submit(walk_tar, files, *tar) for tar in islice(ahead, 2 * _WALKERS)]
        number = 0
        while waiting:
            members = waiting.pop(0).result()
            waiting += [pool.submit(walk_tar, files, *tar) for tar in islice(ahead, 1)]
            yield number, members
            number += 1
