"""The list of known collections: what each should be, and how it is on this machine."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from plada.common.summary import Summary, shared_fields
from plada.common.units import group_digits
from plada.errors import PladaError, UnknownName
from plada.sources.catalogue.counts import class_count, source_count_note, target_count_note
from plada.sources.catalogue.known import KNOWN
from plada.sources.catalogue.places import data_folder, find_source, find_target, looked_in, reference_notes
from plada.sources.registry import open_source, open_target


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary(Summary):
    """A collection that is known by name, and how it is on this machine.

    Attributes:
        name: Its name.
        role: "reference", "target" or "both".
        about: What it is.
        images: Images as published.
        classes: Classes as published; None where there are none.
        present: It can be used.
        path: Where it is, or is looked for first; None if it is built in.
        expects: Its form on disk.
        obtain: Where it comes from.
        indexed: There is an index of this name.
        splits: Images of each published part.
        split: The official split, and what plada does where there is none.
        paper: What the paper did with it.
        licence: A reminder of its licence.
        reader: What reads it.
        figures: Where the counts come from.
        looks: All places where it is looked for.
        layout: The layout of the target that is here.
        found_images: Images that were counted; None until then.
        found_classes: Classes that were counted; None until then.
        counted: How: by "files" (with `check`) or by the stored "manifest".
        problem: What is not as it should be; empty if nothing is known to be wrong.
    """

    name: str
    role: str
    about: str
    images: int
    classes: int | None
    present: bool
    path: str | None
    expects: str
    obtain: str
    indexed: bool
    splits: Mapping[str, int]
    split: str
    paper: str
    licence: str
    reader: str
    figures: str
    looks: tuple[str, ...]
    layout: str | None = None
    found_images: int | None = None
    found_classes: int | None = None
    counted: str | None = None
    problem: str = ""

    def state(self) -> str:
        """Whether it is here, and whether it was counted, in a few words."""
        if self.path is None:
            return "built in"
        if not self.present:
            return "not in its layout" if self.problem else "no"
        counted = f", {group_digits(self.found_images)} counted" if self.found_images is not None else ""
        return f"here{counted}" + (", see below" if self.problem else "")

    def details(self) -> dict[str, str]:
        """Everything that is known, field by field; what does not apply is left out."""
        published = ", ".join(f"{part} {group_digits(count)}" for part, count in self.splits.items())
        fields = {
            "what": self.about,
            "role": self.role,
            "images": published if "all" not in self.splits else group_digits(self.images),
            "classes": group_digits(self.classes) if self.classes else "",
            "counts from": self.figures,
            "official split": self.split,
            "the paper's": self.paper,
            "expects": self.expects,
            "looks in": "\n".join(self.looks),
            "read by": self.reader,
            "licence": self.licence,
            "obtain": self.obtain,
            "present": self.state().replace(", see below", ""),
            "path": self.path if self.path and (self.present or self.problem) else "",
            "layout": self.layout or "",
            "problem": self.problem,
            "indexed": "yes" if self.indexed else "no",
        }
        return {name: text for name, text in fields.items() if text}


def list_datasets(home: Path, *, name: str | None = None, check: bool = False) -> list[DatasetSummary]:
    """Every registered collection (or one), in the order of KNOWN.

    Without `check` no image is looked at: a count is compared where a manifest is stored. With it, each set that is here
    is opened and counted, which takes minutes for millions of files.

    Raises:
        UnknownName: no such name.
    """
    if name is not None and name not in KNOWN:
        raise UnknownName("data set", name, KNOWN)
    counts = _stored_counts(home)
    return [_summary(home, known, counts, check) for known in ([name] if name else KNOWN)]


def _summary(home: Path, name: str, counts: Mapping[str, int], check: bool) -> DatasetSummary:
    known = KNOWN[name]
    target = find_target(home, name) if known.role != "reference" else None
    source = find_source(home, name)
    summary = DatasetSummary(
        **shared_fields(known, DatasetSummary),
        name=name,
        images=known.images,
        present=known.built_in or (source if known.role != "target" else target) is not None,
        path=None if known.built_in else str(target[0] if target else source or data_folder(home, name)),
        indexed=(home / "indexes" / name / "index.json").exists(),
        looks=() if known.built_in else tuple(map(str, looked_in(home, name))),
        layout=target[1] if target else None,
    )
    if known.built_in:
        return summary
    if known.role == "target" and target is None and source is not None:
        return replace(summary, problem=f"a folder is here, but not in its layout. Expected: {known.expects}")
    if check and summary.present:
        return _checked(summary, home)
    stored = counts.get(str(source)) if known.role != "target" else None
    if stored is not None:
        summary = replace(
            summary, found_images=stored, counted="manifest", problem=source_count_note(known, stored, None)
        )
    return summary


def _checked(summary: DatasetSummary, home: Path) -> DatasetSummary:
    """The summary with what is really there, as a target where it is one, else as a reference."""
    known = KNOWN[summary.name]
    try:
        if summary.layout is None:
            collection = open_source(summary.name, home)
            images, classes = len(collection), class_count(collection.keys)
            problem = source_count_note(known, images, classes)
        else:
            target = open_target(summary.name, home)
            images = len(target.train) + len(target.validation) + (len(target.test) if target.test else 0)
            classes, problem = len(target.classes), target_count_note(known, target)
    except PladaError as err:
        return replace(summary, problem=str(err))
    return replace(summary, found_images=images, found_classes=classes, counted="files", problem=problem)


def _stored_counts(home: Path) -> dict[str, int]:
    """Images of every collection whose manifest is kept here, by location."""
    found = {}
    for note in reference_notes(home):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a note that lacks it does not hide the others
            found[str(note["location"])] = int(note["images"])
    return found
