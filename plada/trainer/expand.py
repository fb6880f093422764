"""More labelled images for no byte: `plada train --widen N`.

A client with an index of the reference fits a linear student to the payload's images in a second and labels the whole
reference with it. Its network then trains on the N surest images of each class besides those that were sent. This helps
networks where few images were sent; a linear student gains nothing (docs/log.md).
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
from plada.trainer.linear_student import check_targets, only_index, with_embedding


def expand(
    payload: Payload,
    per_class: int,
    *,
    home: Path,
    index: str | None = None,
    same_keys: bool = False,
    device: str | None = "cpu",
) -> Payload:
    """`payload` with up to `per_class` more images of each class, those that a linear student labels with the largest margins.

    The student is fitted to the payload's images on the embeddings of `index`, by default the only index here of the
    reference. `same_keys` accepts an index of a re-encoded or resized copy. A large fit may run on `device`. Nothing is random. Memory grows with `per_class`
    times the number of classes.

    Raises:
        RequestError: `per_class` below 1; no index here is of the payload's reference, or several are.
        ReferenceMismatch: `index` is of other images. UnknownName: there is no such index.
        DataError: the index could read none of the payload's images. ResourceError: too many images and classes.
    """
    if per_class < 1:
        raise RequestError(f"--widen {per_class}: expected 1 or more images of each class")
    # The images that were sent may be among the surest of their class.
    depth = per_class + max(payload.class_counts())
    check_targets(max(len(payload), min(depth, payload.reference)), len(payload.classes))
    opened = _index_of(payload, home, index, same_keys)
    positions, labels = with_embedding(opened, payload)
    vectors = opened.vectors(positions).astype(np.float32)
    head = fit_head(
        vectors, labels, classes=len(payload.classes), mean=opened.mean, penalty=STUDENT_PENALTY, device=device
    )
    surest = scan_linear(opened.scan(), head, depth=depth)
    fresh = np.flatnonzero(~np.isin(surest.positions, payload.positions))
    order = fresh[np.lexsort((surest.positions[fresh], -surest.margins[fresh]))]
    kept = order[class_ranks(surest.labels[order]) < per_class]
    both = np.concatenate([payload.positions, surest.positions[kept]])
    place = np.argsort(both)
    of_both = np.concatenate([payload.labels, surest.labels[kept]])
    return replace(payload, positions=both[place], labels=of_both[place], rank=None)


def _index_of(payload: Payload, home: Path, name: str | None, same_keys: bool) -> Index:
    """An index of the payload's reference: the one of that name, or the only one."""

    def fits(opened: Index) -> bool:
        keys, content = opened.info["key_id"], opened.info["content_id"]
        same = same_keys or content.startswith(payload.content_id.hex())
        return bool(keys.startswith(payload.key_id.hex()) and len(opened) == payload.reference and same)

    if name is None:
        opened = only_index(list(indexes_that(fits, home)), "--widen")
        if opened is None:
            raise RequestError(
                "--widen needs an index of the payload's reference, and there is none here. Run plada index"
            )
        return opened
    opened = open_index(name, home=home)
    if not fits(opened):
        raise ReferenceMismatch(
            f"--widen: index '{name}' is of other images than the payload's reference. Name one of these images, or make it "
            "with plada index",
            wanted=payload.content_id.hex(),
            found=opened.info["content_id"][:16],
        )
    return opened
