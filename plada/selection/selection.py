"""A selection: the images chosen for a target, as a table, a payload and a report."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.labeler.linear_teacher import TeacherReport
from plada.labeler.pseudo_labels import PseudoLabels
from plada.payload.payload import Payload
from plada.selection.auto import Forecast, RuleTrial
from plada.selection.rules.registry import Chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionReport:
    """What `plada select` says of its work; the fields of its --json summary.

    `reference_counts` are the pseudo-labels of each class in the whole reference, before the choice; `looked_at` is the
    number of images that the teacher was run on; `rule_note` says why the rule is not the default, or could not be judged.
    """

    payload: str | None
    bytes: int
    budget: int
    images: int
    classes: int
    class_counts: Mapping[str, int]
    reference_counts: Mapping[str, int]
    empty_classes: tuple[str, ...]
    keep_rate: float
    rule: str
    rule_note: str
    coder: str
    teacher: TeacherReport
    looked_at: int
    copies: int  # candidates that were left out as near-duplicates of better ones
    labels: str  # hard, soft or dirichlet
    label_bytes: int  # what is not hard costs in the file
    tried: tuple[RuleTrial, ...]
    forecast: Forecast | None
    left_out: int  # target images that could not be read
    target_note: str  # how the target was split where that is not its publisher's, and counts that are not the known
    leaks: tuple[Any, ...]  # plada.sources.leaks.leaks.Leak: chosen images that are near copies of test images
    leaks_dropped: tuple[Any, ...]  # the same, of images that were left out for it
    leaks_note: str  # why nothing could be checked, or nothing
    seconds: Mapping[str, float]
    client_has: str = "manifest"  # what readers need beside the images: nothing, manifest, pack
    progressive: str | None = None
    signed_by: str | None = None  # fingerprint of the key
    serial: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Selection:
    """`table` (pyarrow) has position, key, label, score, class_rank; rank 0 is the best image of its class."""

    table: Any
    payload: Payload
    report: SelectionReport


def make_table(labels: PseudoLabels, chosen: Chosen, keys: list[str]) -> Any:
    """The table of a selection in order of position; `keys` [k] are those of chosen.rows, best first."""
    import pyarrow as pa

    order = np.argsort(chosen.rows)
    rows = chosen.rows[order]
    return pa.table(
        {
            "position": pa.array(labels.positions[rows].astype(np.uint32)),
            "key": pa.array([keys[i] for i in order], pa.string()),
            "label": pa.array(labels.labels[rows].astype(np.int32)),
            "score": pa.array(chosen.scores[order]),
            "class_rank": pa.array(class_ranks(labels.labels[chosen.rows])[order].astype(np.int32)),
        }
    )


def class_ranks(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Place of each image among those of its class, int64 [k], for labels [k] given best first."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - starts
    return ranks


def shares_of_class(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How far down its class each image stands, 0 .. 1, float64 [k], for labels [k] given best first: the images below
    any value are of all classes alike, in proportion to their size."""
    counts = np.bincount(labels)
    share: npt.NDArray[np.float64] = (class_ranks(labels) + 0.5) / counts[labels]
    return share
