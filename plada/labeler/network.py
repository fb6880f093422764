"""A teacher that is a network of its own and looks at the reference's images, not at the index's embeddings."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from plada.labeler.scores import PseudoLabels
from plada.labeler.teachers import F32, pseudo_label
from plada.progress import Report, Tracker
from plada.sources.decode import View, load_pixels
from plada.sources.reference import Reference

Pixels = npt.NDArray[np.uint8]
_BLOCK = 1024  # images in memory at a time


def label_by_network(
    logits_of: Callable[[Pixels], F32], reference: Reference, view: View, *, classes: int, report: Report
) -> PseudoLabels:
    """Label every readable image of the reference; `logits_of` takes pixels uint8 [n, size, size, 3] as `view` makes
    them and gives logits [n, classes]. How the network was trained is the caller's affair: the training loop belongs to
    the client's half."""
    tracker = Tracker("label", len(reference), report)

    def blocks() -> Iterator[tuple[npt.NDArray[np.int64], Pixels]]:
        for start in range(0, len(reference), _BLOCK):
            positions = np.arange(start, min(start + _BLOCK, len(reference)))
            pixels, readable = load_pixels(reference.read, positions, view, stage="label")
            yield positions[readable], pixels[readable]
            tracker.advance(len(positions))

    return pseudo_label(blocks(), logits_of, classes=classes)
