"""More labelled images for no byte: `plada train --widen N`.

A client that has an index of the reference can fit a linear student to the payload's images in a second, let it name
the whole reference, and train its network on the N surest images of each class besides those that were sent. A network learns
from pictures, and some hundred are few; a linear student gains nothing by it (docs/log.md).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from plada.common.statistics import class_ranks
from plada.errors import ReferenceMismatch, RequestError
from plada.labeler.scan import scan_linear
from plada.networks.linear_head import STUDENT_PENALTY, fit_head
from plada.payload.payload import Payload
from plada.retrieval.index import Index, indexes_that, open_index
from plada.trainer.linear_student import with_embedding


def widen(
    payload: Payload, per_class: int, *, home: Path, index: str | None = None, same_keys: bool = False
) -> Payload:
    """`payload` with up to `per_class` more images of each class: those that a linear student of its images, on the
    embeddings of an index here, names with the largest margins. `index` is its name; by default the first that has these
    images. `same_keys` accepts one of a re-encoded or resized copy.

    No random choice is made. Memory is that of `per_class` images of each class.

    Raises:
        RequestError: `per_class` below 1; no index here is of the payload's reference.
        ReferenceMismatch: `index` is of other images. UnknownName: there is no such index.
        DataError: the index could read none of the payload's images.
    """

    if per_class < 1:
        raise RequestError(f"--widen {per_class}: expected 1 or more images of each class")
    opened = _index_of(payload, home, index, same_keys)
    positions, labels = with_embedding(opened, payload)
    head = fit_head(
        opened.vectors(positions).astype(np.float32),
        labels,
        classes=len(payload.classes),
        mean=opened.mean,
        penalty=STUDENT_PENALTY,
    )
    # As many as were sent of a class may be among its surest ones.
    depth = per_class + max(payload.class_counts())
    surest = scan_linear(opened.scan(), head, depth=depth)
    fresh = np.flatnonzero(~np.isin(surest.positions, payload.positions))
    order = fresh[np.lexsort((surest.positions[fresh], -surest.margins[fresh]))]
    kept = order[class_ranks(surest.labels[order]) < per_class]
    both = np.concatenate([payload.positions, surest.positions[kept]])
    place = np.argsort(both)
    of_both = np.concatenate([payload.labels, surest.labels[kept]])
    return replace(payload, positions=both[place], labels=of_both[place], rank=None)


def _index_of(payload: Payload, home: Path, name: str | None, same_keys: bool) -> Index:
    """An index here of the payload's reference: the one of that name, or the first."""

    def fits(opened: Index) -> bool:
        keys, content = opened.info["key_id"], opened.info["content_id"]
        same = same_keys or content.startswith(payload.content_id.hex())
        return bool(keys.startswith(payload.key_id.hex()) and len(opened) == payload.reference and same)

    if name is None:
        found = next(indexes_that(fits, home), None)
        if found is None:
            raise RequestError(
                "--widen needs an index of the payload's reference, and there is none here. Run plada index"
            )
        return found
    opened = open_index(name, home=home)
    if not fits(opened):
        raise ReferenceMismatch(
            f"--widen: index '{name}' is of other images than the payload's reference. Name one of these images, or make it "
            "with plada index",
            wanted=payload.content_id.hex(),
            found=opened.info["content_id"][:16],
        )
    return opened
