"""`plada.datasets` and `plada.open_images`: the collections that are known by name, and one that is on this machine."""

from pathlib import Path

from plada.common.files import home_directory
from plada.common.progress import Report, silent, with_heartbeat
from plada.sources.catalogue.datasets import DatasetSummary, list_datasets
from plada.sources.reference import Reference, open_reference
from plada.sources.registry import open_source


def datasets(name: str | None = None, *, check: bool = False, home: str | Path | None = None) -> list[DatasetSummary]:
    """List the collections that are known by name, and how they are on this machine.

    Args:
        name: The one to list; None for all.
        check: Open each one that is here, and count its images and classes, which takes minutes for millions of files.
            Without it only stored counts are compared.
        home: Where collections are looked for. None: $PLADA_HOME, or the user's data folder.

    Returns:
        A summary of each.

    Raises:
        UnknownName: There is no such name.

    Examples:
        >>> import plada
        >>> plada.datasets("food101")[0].name
        'food101'
    """
    return list_datasets(home_directory(home), name=name, check=check)


@with_heartbeat
def open_images(reference: str | Path, *, home: str | Path | None = None, report: Report = silent) -> Reference:
    """Open a reference: its keys, its manifest, and its images by position.

    The manifest is made if there is none yet, which reads every image once.

    Args:
        reference: A registered name, a path or an fsspec URL.
        home: Where manifests are kept. None: $PLADA_HOME, or the user's data folder.
        report: Called with the progress.

    Returns:
        The reference. Each image that it reads is compared with its hash.

    Raises:
        UnknownName: There is neither such a name nor such a place.
        DataError: The files are damaged.

    Examples:
        >>> import plada
        >>> images = plada.open_images("glyphs:count=300")
        >>> images.image(12).size
        (32, 32)
    """
    root = home_directory(home)
    return open_reference(open_source(reference, root, report=report), root, report=report)
