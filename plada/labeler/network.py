"""A teacher that is a network of its own: it is trained on the target's images and looks at the reference's images."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from plada.labeler.linear import TeacherReport
from plada.labeler.scores import PseudoLabels
from plada.labeler.teachers import F32, accuracy, pseudo_label
from plada.progress import Report, Tracker
from plada.sources.decode import View, load_pixels
from plada.sources.reference import Reference

Pixels = npt.NDArray[np.uint8]
_BLOCK = 2048


def network_teacher(
    kind: str,
    logits_of: Callable[[Pixels], F32],
    reference: Reference,
    view: View,
    validation: tuple[Pixels, npt.NDArray[np.int64]],
    test: tuple[Pixels, npt.NDArray[np.int64]] | None,
    *,
    classes: int,
    report: Report,
) -> tuple[PseudoLabels, TeacherReport]:
    """Label every readable image of the reference; `logits_of` takes pixels uint8 [n, size, size, 3] as `view` makes
    them and gives logits [n, classes]; validation and test are (pixels, labels)."""
    tracker = Tracker("label", len(reference), report)

    def blocks() -> Iterator[tuple[npt.NDArray[np.int64], Pixels]]:
        for start in range(0, len(reference), _BLOCK):
            positions = np.arange(start, min(start + _BLOCK, len(reference)))
            pixels, readable = load_pixels(reference.read, positions, view, stage="label")
            yield positions[readable], pixels[readable]
            tracker.advance(len(positions))

    labels = pseudo_label(blocks(), logits_of, classes=classes)
    return labels, TeacherReport(
        kind=kind,
        accuracy=accuracy(logits_of(test[0]), test[1]) if test is not None else None,
        validation_accuracy=accuracy(logits_of(validation[0]), validation[1]),
    )
