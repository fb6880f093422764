"""The collections that plada knows by name: what each should hold, how it lies on disk, its splits, its terms.

These are facts, which stand in known.json; `places`, `datasets` and plada.sources.registry act on them. `figures` says
where the counts come from, and which were not checked against the publisher. Licence notes are reminders, not advice: the
publisher's terms count.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """A collection that is known by name."""

    role: str  # reference, target, or both
    about: str
    splits: Mapping[str, int]  # images in each published part that has labels; {"all": n} where there is no split
    classes: int | None
    expects: str  # its form on disk
    split: str  # the official split, and what plada does where there is none
    licence: str
    obtain: str
    figures: str  # where the counts come from
    folders: tuple[str, ...] = ()  # that archives or other tools make, tried below datasets/NAME and datasets
    layouts: tuple[str, ...] = ()  # of plada.sources.targets.layouts; every target may also lie as folders or parquet
    reader: str = "plada"
    paper: str = ""  # what the paper (arXiv 2602.23358) did, where it used the set
    paper_split: str = ""  # same, pooled (its own 80/20 of everything) or train-only (the published validation unused)
    also: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # counts of other editions, by what they are
    validation_is_test: bool = False  # test images have no labels; the validation images serve as the test
    built_in: bool = False

    @property
    def images(self) -> int:
        """Images of a reference; of a target, those of all its parts."""
        return self.splits["train"] if self.role == "both" else sum(self.splits.values())


def _read_known() -> dict[str, KnownDataset]:
    entries = json.loads(files("plada.sources.catalogue").joinpath("known.json").read_text("utf-8"))
    for entry in entries.values():
        for name in {"folders", "layouts"} & entry.keys():
            entry[name] = tuple(entry[name])
    return {name: KnownDataset(**entry) for name, entry in entries.items()}


KNOWN: Mapping[str, KnownDataset] = MappingProxyType(_read_known())
