"""`plada search` as a Python call. Lies beside api.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from plada.report.sheets import contact_sheet

if TYPE_CHECKING:
    from plada.retrieval.index import Hit, Index


def search(
    queries: Any,
    *,
    index: "Index | str | Path | None" = None,
    k: int = 10,
    sheet: str | Path | None = None,
    home: str | Path | None = None,
) -> "list[list[Hit]]":
    """The k nearest images of each query; queries as `plada.retrieval.Index.search` takes them."""
    from plada.retrieval.index import Index, open_index

    opened = index if isinstance(index, Index) else open_index(index, home=home)
    hits = opened.search(queries, k)
    if sheet is not None:
        named = [queries] if isinstance(queries, str | Path) else list(queries)
        rows = [
            (str(query), opened.images([hit.position for hit in row])) for query, row in zip(named, hits, strict=True)
        ]
        contact_sheet(rows, Path(sheet), title=f"nearest in {opened.name}")
    return hits
