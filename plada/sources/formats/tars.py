"""Tar files read in place, never unpacked: one tar a synset, as the official ImageNet-21K comes, or WebDataset shards.

The two differ in where a key comes from. In a tar of a synset it is TAR NAME/MEMBER without both extensions; in a shard it
is the member's path up to the first dot of its file name, and the shard's name says nothing.
"""

import re
import time
from collections.abc import Iterator, Sequence
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
from plada.sources.formats.listing import ListedCollection, ListingWriter, load_listing, settled
from plada.sources.formats.numbered import INCOMPLETE, accept_missing
from plada.sources.formats.passed_over import PassedOver
from plada.sources.formats.tar_members import InnerFiles, Members, walk_tar
from plada.sources.storage import LITTER, Entry, Files, LocalFiles, check_readable, slug, walk

_SYNSET = re.compile(r"n\d{8}$")
_SHARD = re.compile(r"(^|[^A-Za-z0-9])\d+$")
_IMAGE = r"(?i)[^/]\.(" + "|".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES)) + r")$"
_WEBDATASET_RULE = (
    "a key ends at the first dot of the file name; where samples have several images, say which counts, such as "
    "--image-extension jpg"
)
_HIDDEN = rf"(^|/)(\.|{LITTER}/)"
_SIDECARS = frozenset(["cls", "cls2", "id", "index", "json", "txt", "npy", "__key__"])  # WebDataset's usual fields
_COMPANION = r"\.(" + "|".join(sorted(_SIDECARS)) + r")$"
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
    root: Path | Files,
    *,
    form: str | None = None,
    only: str = "",
    incomplete: bool = False,
    extension: str = "",
    cache: Path | None = None,
    report: Report = silent,
) -> TarCollection:
    """List the tars below a root, at any depth, by walking their headers; `only` names a single one.

    `extension` says which members of WebDataset's samples are the images. `form` is tars or webdataset; None tells them apart (`form_of_tars`). A large listing is kept below `cache` and used
    again while no tar has changed.

    Raises:
        DataError: no image, two images with one key, images beside tars, files missing that others speak of (unless `incomplete`), a
            tar that is cut, concatenated or no tar.
    """
    files = LocalFiles(root.absolute()) if isinstance(root, Path) else root
    start, passed = time.time_ns(), PassedOver()
    tars = dict(shards(files, ".tar", passed, only))
    stamps = {path: f"{entry.size}:{entry.stamp}" for path, entry in tars.items()}
    young = settled({path: entry.stamp for path, entry in tars.items()}, start)
    location = (f"{form}:" if form else "") + (files.show(only) if only else files.location)
    location = f"image-extension={extension}:{location}" if extension else location
    missing = "" if only else accept_missing(location, tars, incomplete)
    location = f"{INCOMPLETE}:{location}" if missing else location
    kept = cache / slug(location) if cache is not None else None
    note = {"asked": form, "shards": stamps if young or not tars else {}}
    if kept is not None and note["shards"]:
        saved: dict[str, Any] = {}

        def still(found: dict[str, Any]) -> bool:
            saved.update(found)
            return {name: found.get(name) for name in note} == note

        listing = load_listing(kept, still, report)
        if listing is not None:
            return TarCollection(location, listing, files, saved["form"])
    paths = tuple(sorted(tars, key=lambda path: path[: -len(".tar")] + "/"))
    walked = _leaves(files, _walk_all([(files, path, tars[path].size) for path in paths]), paths, passed)
    first = list(islice(walked, 1))
    form = form or ("webdataset" if extension else None)
    chosen = form or (form_of_tars(first[0].beside, first[0].members) if first else "tars")
    rule = _WEBDATASET_RULE if chosen == "webdataset" else ListingWriter.key_rule
    with ListingWriter(
        location, folder=kept, place=lambda part, at, key: f"{part} ({key}, byte {at})", passed=passed, key_rule=rule
    ) as writer:
        for leaf in chain(first, walked):
            names = leaf.members.names
            images = image_rows(names, extension)
            if len(images):
                chosen_names = names.take(pa.array(images))
                keys = _keys(chosen_names, _prefix(leaf.path, chosen_names), chosen)
                writer.add_rows(keys, leaf.members.sizes[images], leaf.part, leaf.base + leaf.members.offsets[images])
            passed.add_members(_others(names, chosen), leaf.path)
        writer.remarks += [missing] if missing else []
        return TarCollection(location, writer.finish(paths, {**note, "form": chosen}), files, chosen)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A tar of images: `path` is where it would lie if a tar around it were unpacked, `beside` are the paths of all such, as
    far as they are known; `part` is the file that holds it, from byte `base` on."""

    path: str
    members: Members
    part: int
    base: int
    beside: tuple[str, ...]


def _leaves(
    files: Files, walked: Iterator[tuple[int, Members]], paths: tuple[str, ...], passed: PassedOver
) -> Iterator[_Leaf]:
    """Each tar, or where one holds tars and no image (as ImageNet-21K's winter21_whole), each of those."""
    for number, members in walked:
        inner = np.flatnonzero(_is_tar(members.names).to_numpy(zero_copy_only=False))
        if not len(inner) or len(image_rows(members.names)):
            yield _Leaf(paths[number], members, number, 0, paths)
            continue
        names = members.names.take(pa.array(inner))
        outer = paths[number]
        around = outer.rpartition("/")[0] + "/" if "/" in outer else ""
        shorter = pc.all(pc.starts_with(names, _stem(outer) + "/")).as_py()
        below = [around + (name[len(_stem(outer)) + 1 :] if shorter else name) for name in names.to_pylist()]
        others = members.names.filter(pc.invert(_is_tar(members.names)))
        passed.add_members(_others(others, "tars"), outer)
        places = list(zip(members.offsets[inner].tolist(), members.sizes[inner].tolist(), strict=True))
        tars = [
            (InnerFiles(files, outer, base, size), path, size) for path, (base, size) in zip(below, places, strict=True)
        ]
        for row, found in _walk_all(tars):
            yield _Leaf(below[row], found, number, places[row][0], tuple(below))


def _entry_of(files: Files, name: str) -> Entry:
    try:
        found = next((entry for entry in files.entries("") if entry.name == name), None)
    except DataError:
        found = None
    if found is None:  # a store that does not list what it has
        with files.open(name) as stream:
            found = Entry(name, False, stream.seek(0, 2), "")
    return found


def _is_tar(names: Any) -> Any:
    return pc.and_not(pc.match_substring_regex(names, r"(?i)[^/]\.tar$"), pc.match_substring_regex(names, _HIDDEN))


def _stem(path: str) -> str:
    return path.rpartition("/")[2][: -len(".tar")]


def _others(names: Any, form: str) -> Any:
    """Members that are no images: without hidden ones, and in shards without the usual companions of images."""
    skipped = pc.or_(pc.match_substring_regex(names, _IMAGE), pc.match_substring_regex(names, _HIDDEN))
    if form == "webdataset":
        skipped = pc.or_(skipped, pc.match_substring_regex(names, _COMPANION))
    return names.filter(pc.invert(skipped))


def shards(files: Files, suffix: str, passed: PassedOver | None = None, only: str = "") -> Iterator[tuple[str, Entry]]:
    """(path, entry) of every shard below a root, or of one, `only`; `passed` counts what else lies there. Raises DataError:
    images lie beside them: it is not clear which of the two is meant. Or `only` is no file."""
    if only:
        entry = _entry_of(files, only)
        check_readable(files, only, entry)
        yield only, entry
        return
    for path, entry in walk(files):
        if entry.is_folder:
            continue
        if entry.name.lower().endswith(suffix):
            check_readable(files, path, entry)
            yield path, entry
        elif is_image_name(entry.name):
            raise DataError(
                f"{files.location}: holds {suffix[1:]} files and also {path}; only one of them can be the collection. "
                "Move one away"
            )
        elif passed is not None:
            passed.add(path)


def form_of_tars(paths: tuple[str, ...], members: Members) -> str:
    """tars or webdataset, from the names of all tars and the members of the first.

    Tars named like synsets (n01443537) are such. Names that end in a number of their own (shard-000012, 00012) are
    shards, and so are tars in which images have companions of the same name (.cls, .json, .txt). All else is a tar a class.
    """
    stems = [_stem(path) for path in paths]
    if all(_SYNSET.match(stem) for stem in stems):
        return "tars"
    if all(_SHARD.search(stem) for stem in stems):
        return "webdataset"
    images = set(_keys(members.names.take(pa.array(image_rows(members.names))), "", "webdataset").to_pylist())
    others = (name for name in members.names.to_pylist() if name.rpartition(".")[2] in _SIDECARS)
    return "webdataset" if any(_sample_key(name) in images for name in others) else "tars"


def image_rows(names: Any, extension: str = "") -> I64:
    """Which of some paths (pyarrow string array) are images that count: known extension, nothing hidden on the way. With an
    `extension`, those with that alone behind the first dot of their file name."""
    image = rf"(?i)(^|/)[^/.]+\.{re.escape(extension)}$" if extension else _IMAGE
    counts = pc.and_not(pc.match_substring_regex(names, image), pc.match_substring_regex(names, _HIDDEN))
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
    whole = path[: -len(".tar")]
    folder, _, stem = whole.rpartition("/")
    if len(names) and pc.all(pc.starts_with(names, stem + "/")).as_py():
        return f"{folder}/" if folder else ""
    return whole + "/"


def _walk_all(tars: Sequence[tuple[Files | InnerFiles, str, int]]) -> Iterator[tuple[int, Members]]:
    """(number, members) of each tar in turn; a few are walked at a time, since each waits for the disk."""
    with ThreadPoolExecutor(_WALKERS) as pool:
        ahead = iter(tars)
        waiting = [pool.submit(walk_tar, *tar) for tar in islice(ahead, 2 * _WALKERS)]
        number = 0
        while waiting:
            members = waiting.pop(0).result()
            waiting += [pool.submit(walk_tar, *tar) for tar in islice(ahead, 1)]
            yield number, members
            number += 1
