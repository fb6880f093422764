"""The collections on this machine, as Python calls. The other calls have modules of their own, see plada/__init__.py."""

from pathlib import Path

from plada.common.files import home_directory
from plada.common.progress import Report, silent
from plada.sources.catalogue.datasets import DatasetSummary, list_datasets
from plada.sources.reference import Reference, open_reference
from plada.sources.registry import open_source


def datasets(name: str | None = None, *, check: bool = False, home: str | Path | None = None) -> list[DatasetSummary]:
    """Every registered collection (or the one called `name`), and how it is on this machine.

    `check` opens each one that is here and counts its images and classes; without it only stored counts are compared.

    Raises:
        UnknownName: no such name.
    """
    return list_datasets(home_directory(home), name=name, check=check)


def open_images(reference: str | Path, *, home: str | Path | None = None, report: Report = silent) -> Reference:
    """A reference on this machine: its keys, its manifest, and its images by position, hashes compared."""
    root = home_directory(home)
    collection = open_source(reference, root)
    return open_reference(collection, root, report=report)
