"""`plada search` as a Python call, and the approximate index that makes it fast. Lies beside api.py."""

from pathlib import Path
from typing import Any

from PIL import Image

from plada.common.packages import require
from plada.common.progress import Report, silent
from plada.errors import RequestError
from plada.indexer.ann import made_of
from plada.indexer.ann_build import build_ann
from plada.indexer.store import Store
from plada.reports.contact_sheet import contact_sheet
from plada.retrieval.index import Hit, Index, open_index
from plada.retrieval.knn import exact_search
from plada.retrieval.queries import picture, split, understand

_SHEET = 200  # rows of a contact sheet


def search(
    queries: Any,
    *,
    index: Index | str | Path | None = None,
    k: int = 10,
    exact: bool = True,
    sheet: str | Path | None = None,
    home: str | Path | None = None,
) -> list[list[Hit]]:
    """The k nearest images of each query; queries as `plada.retrieval.Index.search` takes them.

    With `exact=False` the approximate index answers. `sheet` is a PNG that shows each query and its hits, with scores.
    """

    opened = index if isinstance(index, Index) else open_index(index, home=home)
    if sheet is None:
        return opened.search(queries, k, exact=exact)
    asked = [understand(query) for query in split(queries)]
    if len(asked) > _SHEET:
        raise RequestError(
            f"a sheet of {len(asked)} queries: expected {_SHEET} or fewer. Search without --sheet, or in parts"
        )
    hits = opened.search(queries, k, exact=exact)
    reference = opened.reference()
    rows: list[tuple[str, list[Image.Image]]] = []
    notes: list[list[str]] = []
    for one, found in zip(asked, hits, strict=True):
        shown = _picture(one, opened)
        rows.append((one.name, [shown, *(reference.image(hit.position) for hit in found)]))
        notes.append([one.kind, *(f"{hit.score:.4f}" for hit in found)])
    contact_sheet(rows, Path(sheet), title=f"nearest in {opened.name}", notes=notes)
    return hits


def make_ann(
    index: Index | str | Path | None = None,
    *,
    kind: str = "ivf",
    recall: float = 0.95,
    seed: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Build the approximate index that `search(..., exact=False)` uses: what its ann.json says, recall and rates measured.

    `kind` is ivf (inverted lists; the usual choice) or hnsw (a graph; built on one thread, slowly, so that the same table
    gives the same file). `recall` is the recall@10 that its effort is chosen for.

    Raises:
        RequestError: another kind, too few images. ResourceError: memory or disk too small, or another process writes the
            index. DataError: the recall cannot be reached.
    """

    require("faiss", extra="cpu", purpose="an approximate index")
    opened = index if isinstance(index, Index) else open_index(index, home=home)
    with Store(opened.folder).lock():
        return build_ann(
            opened.folder / "ann",
            opened.scan,
            kind=kind,
            images=len(opened),
            rows=opened.readable,
            dimension=opened.dimension,
            source=made_of(opened.info),
            exact=exact_search,
            recall=recall,
            seed=seed,
            report=report,
        )


def _picture(asked: Any, opened: Index) -> Image.Image:
    """What a sheet shows of a query: its image, the image at its position, or an empty cell for words and vectors."""
    if asked.kind == "image":
        seen: Image.Image = picture(asked)
        return seen
    if asked.kind == "position":
        return opened.reference().image(asked.value)
    return Image.new("RGB", (64, 64), "white")
