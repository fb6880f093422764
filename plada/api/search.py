"""`plada.search` and `plada.make_ann`: the nearest images of a query, and the approximate index that finds them fast."""

from pathlib import Path
from typing import Any

from PIL import Image

from plada.common.outputs import check_outputs
from plada.common.packages import require
from plada.common.progress import Report, silent, with_heartbeat
from plada.common.units import check_seed
from plada.errors import RequestError
from plada.indexer.ann import ann_source
from plada.indexer.ann_build import build_ann
from plada.indexer.store import Store
from plada.reports.contact_sheet import contact_sheet
from plada.retrieval.hit import Hit
from plada.retrieval.index import Index, open_index
from plada.retrieval.knn import exact_search
from plada.retrieval.queries import Query, parse_query, position_of_key, query_image, split_queries

_MAX_ROWS = 200  # of a contact sheet


def search(
    queries: Any,
    *,
    index: Index | str | Path | None = None,
    k: int = 10,
    exact: bool = True,
    sheet: str | Path | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> list[list[Hit]]:
    """The k nearest images of each query, best first.

    Args:
        queries: One query or several, as `plada.Index.search` takes them.
        index: An opened index, its name, folder or URL; None for the only one there is.
        k: Images for each query.
        exact: Compare with all images. With False the approximate index answers, which may miss an image.
        sheet: A PNG to write, which shows each query and its hits with their scores.
        home: Where indexes are kept. None: $PLADA_HOME, or the user's data folder.
        report: Called with the progress when parts of an index at a URL are copied.

    Returns:
        The hits of each query.

    Raises:
        UnknownName: There is no such index.
        RequestError: As `plada.Index.search` raises; too many queries for a sheet.
        ReferenceMismatch: The images for the sheet are not those that were indexed.

    Examples:
        >>> import plada
        >>> hits = plada.search("position:12", index="glyphs", k=3)[0]
        >>> hits[0].position, len(hits)
        (12, 3)
    """
    check_outputs(sheet)
    opened = index if isinstance(index, Index) else open_index(index, home=home, report=report)
    if sheet is None:
        return opened.search(queries, k, exact=exact)
    parsed = [parse_query(query) for query in split_queries(queries)]
    if len(parsed) > _MAX_ROWS:
        raise RequestError(
            f"a sheet of {len(parsed)} queries: expected {_MAX_ROWS} or fewer. Search without --sheet, or in parts"
        )
    hits = opened.search(queries, k, exact=exact)
    reference = opened.reference()
    rows: list[tuple[str, list[Image.Image]]] = []
    notes: list[list[str]] = []
    for query, found in zip(parsed, hits, strict=True):
        rows.append((query.name, [_picture(query, opened), *(reference.image(hit.position) for hit in found)]))
        notes.append([query.kind, *(f"{hit.score:.4f}" for hit in found)])
    contact_sheet(rows, Path(sheet), title=f"nearest in {opened.name}", notes=notes)
    return hits


@with_heartbeat
def make_ann(
    index: Index | str | Path | None = None,
    *,
    kind: str = "ivf",
    recall: float = 0.95,
    seed: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Build the approximate index that `plada.search(..., exact=False)` uses.

    Args:
        index: An opened index, its name or folder; None for the only one there is.
        kind: `ivf` (inverted lists, the usual choice) or `hnsw` (a graph, built slowly on one thread, so that the same table
            gives the same file).
        recall: The recall@10 to reach: the share of the ten nearest images that are found. The effort of a search is
            chosen for it.
        seed: Decides the sample and the held-out images.
        home: Where indexes are kept. None: $PLADA_HOME, or the user's data folder.
        report: Called with the progress.

    Returns:
        What its ann.json says, with the measured recall and rates.

    Raises:
        RequestError: There is no such kind, or too few images.
        ResourceError: Memory or disk is too small, or another process writes the index.
        DataError: The recall cannot be reached.

    Examples:
        >>> import plada
        >>> plada.make_ann("glyphs")["kind"]
        'ivf'
    """
    require("faiss", extra="cpu", purpose="an approximate index")
    check_seed(seed)
    opened = index if isinstance(index, Index) else open_index(index, home=home)
    if opened.at_url:
        raise RequestError(
            f"{opened.place}: an approximate index is built beside a table on a disk, not at a URL. Make it there, and copy its folder "
            "ann to the URL"
        )
    with Store(opened.folder).lock():
        return build_ann(
            opened.folder / "ann", opened.scan, kind=kind, images=len(opened), rows=opened.readable,
            dimension=opened.dimension, source=ann_source(opened.info), exact=exact_search, recall=recall, seed=seed,
            report=report,
        )  # fmt: skip


def _picture(query: Query, opened: Index) -> Image.Image:
    """What a sheet shows of a query: its image, the image at its position or key, or an empty cell for words and vectors."""
    if query.kind == "image":
        shown: Image.Image = query_image(query)
        return shown
    if query.kind == "position":
        return opened.reference().image(query.value)
    if query.kind == "key":
        return opened.reference().image(position_of_key(query.value, opened.keys, len(opened)))
    return Image.new("RGB", (64, 64), "white")
