"""What payloads chose from an index: each class in the rule's order, and each image as what it was chosen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plada.common.arrays import F64, I64
from plada.payload.payload import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """As what a payload chose one image: class `label`, `place` (from 1) among the `count` of the class, and score.
    Places go by score, or by position where no score is known."""

    label: int
    place: int
    count: int
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedPayload:
    """A payload with its rows ranked within their classes.

    `order` int64 [k] are rows class by class, in the rule's order; `starts` int64 [classes + 1] says where each class begins in it;
    `places` int64 [k] is the inverse of `order`. `scores` float64 [k] by row are None where no table has them: the rows of
    a class then stand by position.
    """

    name: str
    file: str
    bytes: int | None
    payload: Payload
    scores: F64 | None
    order: I64
    starts: I64
    places: I64

    @property
    def classes(self) -> tuple[str, ...]:
        return self.payload.classes

    @property
    def target(self) -> str | None:
        """The target that the payload's notes name."""
        noted = self.payload.notes.get("target")
        return noted if isinstance(noted, str) else None

    def count(self, label: int) -> int:
        """Images of a class."""
        return int(self.starts[label + 1] - self.starts[label])

    def best(self, label: int, first: int, count: int) -> list[int]:
        """Positions of some images of a class, in the rule's order, from the `first` (0) on."""
        start = int(self.starts[label]) + first
        rows = self.order[start : min(start + count, int(self.starts[label + 1]))]
        return [int(position) for position in self.payload.positions[rows]]

    def find(self, position: int) -> Placement | None:
        """As what the image at a position was chosen; None if it was not."""
        row = int(np.searchsorted(self.payload.positions, position))
        if row == len(self.payload) or int(self.payload.positions[row]) != position:
            return None
        label = int(self.payload.labels[row])
        place = int(self.places[row] - self.starts[label]) + 1
        score = float(self.scores[row]) if self.scores is not None else None
        return Placement(label=label, place=place, count=self.count(label), score=score)


def rank_payload(
    payload: Payload, file: str | Path, *, size: int | None = None, scores: F64 | None = None, ranks: I64 | None = None
) -> RankedPayload:
    """Rank a payload by its selection's table: `scores` and `ranks` [k] by row, rank 0 being the best of its class."""
    order = np.lexsort((ranks if ranks is not None else payload.positions, payload.labels))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return RankedPayload(
        name=Path(str(file)).name,
        file=str(file),
        bytes=size,
        payload=payload,
        scores=scores,
        order=order,
        starts=np.append(0, np.cumsum(payload.class_counts())).astype(np.int64),
        places=places,
    )
