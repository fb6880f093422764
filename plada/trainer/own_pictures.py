"""A few labelled pictures of the client's own: `plada train --own FOLDER`.

The student learns from the payload first; then its head is fitted again, with the client's pictures among the payload's (stage two of
SWAT, arXiv 2406.11148, fits the classifier again on the few real pictures). There are few of them, so each counts more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from plada.common.arrays import F32, F64, I64, U8
from plada.common.progress import Report
from plada.errors import DataError, RequestError
from plada.sources.collection import Collection
from plada.sources.decode import View, load_pixels
from plada.sources.formats.folder import open_folder
from plada.trainer.evaluation_images import check_classes

HALF = 12.0  # own pictures of a class that count as much as all the payload's (docs/log.md)
ENOUGH = (
    40  # own pictures from which on a student is calibrated on them; on 20 to 25 it cost up to 9 points (docs/log.md)
)
PARTS = 4  # of a labelled set, each held out once to calibrate a student
_SHOWN = 3  # names in a message
_MAX_PIXELS = 2 << 30  # bytes that pictures may take in memory


@dataclass(frozen=True, slots=True, eq=False)
class OwnPictures:
    """The client's own pictures, with labels int64 [n] among the payload's classes. `note` says which classes have none."""

    collection: Collection
    labels: I64
    note: str

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, view: View, report: Report) -> tuple[U8, I64]:
        """(pixels, labels) of those that can be read.

        Raises:
            RequestError: so many that memory would not hold them. DataError: none can be read.
        """
        if len(self) * view.size**2 * 3 > _MAX_PIXELS:
            raise RequestError(
                f"--own {self.collection.location}: {len(self)} pictures of {view.size} pixels take over {_MAX_PIXELS} bytes; expected "
                "a few of each class. With this many images, train on them only"
            )
        positions = np.arange(len(self), dtype=np.int64)
        pixels, readable = load_pixels(self.collection.read, positions, view, stage="own pictures", report=report)
        if not readable.any():
            raise DataError(
                f"--own {self.collection.location}: none of its {len(self)} pictures can be read. Restore them, or leave out --own"
            )
        return pixels[readable], self.labels[readable]

    def digest(self) -> str:
        """BLAKE3 of labels and stored bytes, hex: what makes two runs on them the same."""
        whole = blake3(self.labels.astype("<i8").tobytes())
        for position in range(len(self)):
            data = self.collection.read(position)
            whole.update(len(data).to_bytes(8, "little") + data)
        return str(whole.hexdigest(16))


def open_own(folder: str | Path, classes: tuple[str, ...]) -> OwnPictures:
    """The pictures of FOLDER/CLASS/*, whose classes are found among `classes` by name; some may have none.

    Raises:
        RequestError: there is no such folder, or no picture in it. DataError: a picture outside a class's folder, a class that is not
        among `classes`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise RequestError(
            f"--own {root}: no such folder. Name one with your own pictures in a folder CLASS/ for each class"
        )
    try:
        collection = open_folder(root)
    except DataError as err:
        raise RequestError(f"--own {root}: no picture in it that can be listed ({err})") from err
    keys = collection.keys.to_pylist()
    loose = [key for key in keys if "/" not in key]
    if loose:
        raise DataError(
            f"--own {root}: picture '{loose[0]}' lies outside any class's folder; expected CLASS/ folders with the payload's names. "
            "Move it into one"
        )
    names = [key.partition("/")[0] for key in keys]
    check_classes(classes, tuple(sorted(set(names))), f"--own {root}")
    numbers = {name: number for number, name in enumerate(classes)}
    missing = [name for name in classes if name not in set(names)]
    more = ", ..." if len(missing) > _SHOWN else ""
    note = (
        f"no own picture of {len(missing)} of {len(classes)} classes ({', '.join(missing[:_SHOWN])}{more}): the payload's images stand "
        "for them"
        if missing
        else ""
    )
    return OwnPictures(collection, np.array([numbers[name] for name in names], np.int64), note)


def importance(labels: I64, own: I64, classes: int) -> F64:
    """How much each of the payload's images with `labels` [k] and then each own picture with labels `own` [m] counts, float64 [k + m].

    A class counts as much as it does in the payload. m_c own pictures of it take m_c / (m_c + HALF) of that, its images of the payload the
    rest. A class that the payload has no image of counts as an average one.
    """
    sent, mine = (np.bincount(some, minlength=classes).astype(np.float64) for some in (labels, own))
    share = np.where(sent > 0, mine / (mine + HALF), 1.0)
    weight = np.where(sent > 0, sent / max(len(labels), 1), (mine > 0) / classes)
    of_sent = weight * (1 - share) / np.maximum(sent, 1)
    of_own = weight * share / np.maximum(mine, 1)
    return np.concatenate([of_sent[labels], of_own[own]])


def held_out_logits(fit: Callable[[I64], Callable[[F32], F32]], vectors: F32, labels: I64, classes: int) -> F32:
    """Logits float32 [n, classes] of `vectors` [n, d], each by a student that has not seen it: `fit` makes one of the rows that it is given.
    Each class is spread over PARTS parts, which are held out one after the other."""
    order = np.lexsort((np.random.default_rng(len(labels)).permutation(len(labels)), labels))
    part = np.empty(len(labels), np.int64)
    part[order] = np.arange(len(labels)) % PARTS
    logits = np.zeros((len(labels), classes), np.float32)
    for each in range(PARTS):
        out = part == each
        if out.any() and not out.all():
            logits[out] = fit(np.flatnonzero(~out))(vectors[out])
    return logits
