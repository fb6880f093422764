"""What can be chosen, after a person's say and without near-duplicates."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from plada.errors import DataError
from plada.labeler.label import Vectors
from plada.labeler.pseudo_labels import PseudoLabels
from plada.retrieval.index import Index
from plada.selection.corrections import left_out, read_keys, read_labels, relabelled
from plada.selection.duplicates import near_duplicates, without_copies
from plada.sources.targets.target import Target

I64 = npt.NDArray[np.int64]


def corrected(
    index: Index, task: Target, labels: PseudoLabels, exclude: str | Path | None, relabel: str | Path | None
) -> PseudoLabels:
    """The pseudo-labels after what a person says: files of keys to leave out, and of keys with the label that is right.

    Raises:
        DataError: a key that the reference does not have.
    """

    if relabel is not None:
        keys, given = read_labels(Path(relabel), task.classes)
        labels = relabelled(labels, _positions_of(index, keys, Path(relabel)), given)
    if exclude is not None:
        labels = left_out(labels, _positions_of(index, read_keys(Path(exclude)), Path(exclude)))
    return labels


def without_near_duplicates(labels: PseudoLabels, vectors: Vectors, threshold: float) -> PseudoLabels:
    """The pseudo-labels without images that are nearer to a surer one of their class than a cosine of `threshold`.

    Raises:
        RequestError: a threshold that is no cosine.
    """

    copies = near_duplicates(labels, lambda positions: vectors(positions).astype(np.float32), threshold)
    return without_copies(labels, copies)


def _positions_of(index: Index, keys: list[str], path: Path) -> I64:
    import pyarrow as pa
    import pyarrow.compute as pc

    found: list[I64] = []
    names: list[str] = []
    at = 0
    wanted = pa.array(keys, pa.string())
    for batch in index.keys_in_order():
        rows = np.flatnonzero(np.asarray(pc.is_in(batch, value_set=wanted)))
        found.append(rows + at)
        names += batch.take(pa.array(rows)).to_pylist()
        at += len(batch)
    places = dict(zip(names, np.concatenate(found).tolist() if found else [], strict=True))
    for key in keys:
        if key not in places:
            raise DataError(f"{path}: the reference of index '{index.name}' has no image '{key}'")
    return np.array([places[key] for key in keys], np.int64)
