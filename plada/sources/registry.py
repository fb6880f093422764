"""From a name, a path or a URL to a collection or a target."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from plada.common.files import last_name, local_place
from plada.common.progress import Report, silent
from plada.errors import RequestError, UnknownName
from plada.sources.catalogue.counts import class_count, source_count_note, target_count_note
from plada.sources.catalogue.known import KNOWN, KnownDataset
from plada.sources.catalogue.places import find_source, find_target, not_here
from plada.sources.collection import Collection
from plada.sources.formats.builtin import open_digits, open_glyphs
from plada.sources.formats.detect import open_collection, split_options
from plada.sources.formats.passed_over import ARCHIVES, PassedOver, advice, ending_of
from plada.sources.targets.layouts import LAYOUTS, find_layout, read_layout
from plada.sources.targets.target import Split, Target, TargetRequest, join_notes, make_target, split_target

_LOOKED_AT = 1000  # names in a folder that is no target
_BUILT_IN_REFERENCES: dict[str, Callable[[dict[str, str]], Collection]] = {"glyphs": open_glyphs}
_BUILT_IN_TARGETS: dict[str, Callable[[], Target]] = {"digits": open_digits}


def open_source(spec: str | Path, home: Path, *, report: Report = silent) -> Collection:
    """The collection that a registered name, a path or a URL stands for. `report` hears of a kept listing that is damaged.

    A name counts as registered unless it has a path separator; `./glyphs` is always a path. Of a name that is reference
    and target, the training images are the reference.

    Raises:
        UnknownName: neither registered nor a place.
        RequestError: registered, but not on this machine.
        DataError: the files are no good (no image, duplicate keys, cut tars).
    """
    text = local_place(spec)
    before, bare = split_options(text)
    if before and bare in KNOWN:
        place = find_source(home, bare) or not_here(home, bare)
        return open_collection(f"{before}{place}", cache=home / "listings", report=report)
    name, _, options = text.partition(":")
    if name in _BUILT_IN_REFERENCES:
        return _BUILT_IN_REFERENCES[name](_options(name, options))
    if text in _BUILT_IN_TARGETS:
        return _BUILT_IN_TARGETS[text]().train.collection
    cache = home / "listings"
    if text in KNOWN:
        found = find_target(home, text) if KNOWN[text].role == "target" else None
        if found is not None and LAYOUTS[found[1]].arrays and found[1] != "parquet":
            return open_target(text, home).train.collection
        return open_collection(find_source(home, text) or not_here(home, text), cache=cache, report=report)
    path = Path(text).expanduser()
    if "/" in text or path.exists():
        if not path.exists() and not _has_form(text):
            raise RequestError(f"{text}: expected a folder of images or of tar files; there is none")
        return open_collection(text if _has_form(text) else path, cache=cache, report=report)
    raise _unknown("reference", text)


def known_counts_note(spec: str | Path, collection: Collection) -> str:
    """What differs from the known counts where `spec` is a registered reference; empty if nothing, or nothing is known."""
    known = KNOWN.get(str(spec))
    if known is None or known.built_in or known.role == "target":
        return ""
    return source_count_note(known, len(collection), class_count(collection.keys))


def open_target(spec: str | Path, home: Path, *, seed: int = 0) -> Target:
    """The target that a registered name, a local path or a file:// URL stands for.

    Behind a registered name may stand options: `cub200:split=paper`, `dtd:partition=2`, `bloodmnist:size=64`,
    `eurosat:seed=3`. split=official is the default, and where there is none the split is made here. `seed` is that of
    splits made here. `note` of what comes back says how it was split, and a count that is not the known one.

    Raises:
        UnknownName: neither registered nor a place.
        RequestError: registered, but not on this machine; an option that this set does not have; not a target.
        DataError: the files are no good (a listed image or a list is missing, a class without images).
    """
    text = local_place(spec)
    name, _, options = text.partition(":")
    if name in KNOWN:
        return _open_known(name, _options(name, options), home, seed)
    path = Path(text).expanduser()
    if not path.exists() and "/" not in text:
        raise _unknown("target", text)
    if "://" in text:
        raise RequestError(f"{text}: a target must lie on this machine. Copy it here, or mount it")
    layout = find_layout(path) if path.exists() else None
    if layout is None:
        here = f"there is {'no such layout here' if path.is_dir() else 'only a file here' if path.exists() else 'none'}"
        raise RequestError(
            f"{text}: a target is a folder with train/CLASS/ and test/CLASS/ below it, with CLASS/ folders alone, or in a "
            f"layout that `plada datasets` knows; {here}{_packed(path)}"
        )
    return read_layout(path, layout, TargetRequest(path.stem if path.is_file() else last_name(path), seed))


def _packed(path: Path) -> str:
    """What a folder that is no target holds that could be unpacked or converted to one; empty where nothing is known."""
    passed = PassedOver()
    for found in islice(path.rglob("*"), _LOOKED_AT) if path.is_dir() else [path]:
        if ending_of(found.name) in (*ARCHIVES, ".arrow"):
            passed.add(str(found))
    if not passed.counts:
        return ""
    example = next(iter(passed.examples.values()))
    todo = advice(example) if example.endswith(".arrow") else "unpack it first"
    return f" ({example}: {todo})"


def _open_known(name: str, options: dict[str, str], home: Path, seed: int) -> Target:
    known = KNOWN[name]
    if known.role == "reference":
        raise RequestError(f"{name}: a reference, no target. Targets: {', '.join(_names('target'))}")
    if name in _BUILT_IN_TARGETS:
        if options:
            raise RequestError(f"{name}: takes no options; its split is fixed")
        return _BUILT_IN_TARGETS[name]()
    which = options.pop("split", "")
    _check_split(name, known, which)
    try:
        seed = int(options.pop("seed", seed))
        if seed < 0:
            raise ValueError(f"{seed} is negative")
    except ValueError as err:
        raise RequestError(f"{name}: seed is a whole number from 0 on ({err})") from err
    found = find_target(home, name)
    if found is None:
        not_here(home, name)
    place, layout = found
    request = TargetRequest(name, seed, options, validation_is_test=known.validation_is_test)
    target = read_layout(place, layout, request)
    target = target.noted(target_count_note(known, target))
    return _as_in_paper(target, known, seed) if which == "paper" else target


def _check_split(name: str, known: KnownDataset, which: str) -> None:
    if which not in ("", "official", "paper"):
        raise RequestError(f"{name}: split={which}; there are split=official and split=paper")
    if which == "official" and "all" in known.splits:
        raise RequestError(f"{name}: has no official split. Leave the option out: plada splits it, with a seed")
    if which == "paper" and not known.paper_split:
        raise RequestError(
            f"{name}: the paper's split is not known, or the paper does not use this set. Leave the option out"
        )


def _as_in_paper(target: Target, known: KnownDataset, seed: int) -> Target:
    """The target with parts as large as the paper's; the paper's own draw is not known."""
    if known.paper_split == "pooled" and "all" not in known.splits:
        parts = [part for part in (target.train, target.validation, target.test) if part is not None]
        if any(part.collection is not target.train.collection for part in parts):
            raise RequestError(
                f"{target.name}: split=paper draws from all images, which must lie in one folder as published: {known.expects}"
            )
        everything = Split(
            target.train.collection,
            np.concatenate([part.positions for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )
        note = join_notes(target.note, "as in the paper: all images pooled")
        return split_target(target.name, target.classes, everything, seed=seed, note=note)
    if known.paper_split == "train-only":
        note = join_notes(target.note, "as in the paper: published validation images unused")
        return make_target(target.name, target.classes, target.train, None, target.test, seed=seed, note=note)
    return target


def _names(role: str) -> list[str]:
    return [name for name, known in KNOWN.items() if known.role in (role, "both")]


def _unknown(role: str, text: str) -> UnknownName:
    return UnknownName(role, text, _names(role), hint="A path to a folder does as well")


def _has_form(text: str) -> bool:
    """Whether a place is a URL, has a wildcard, or says its form (`webdataset:PLACE`): open_collection looks for itself."""
    return "://" in text or any(sign in text for sign in "*?[") or ":" in text.partition("/")[0]


def _options(name: str, text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if any(not equals for _, equals, _ in pairs):
        raise RequestError(f"{name}:{text}: expected {name}:OPTION=VALUE,...")
    return {key.strip(): value.strip() for key, _, value in pairs}
