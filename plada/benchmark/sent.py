"""What a method sends, and what a client makes of it: the student sees what has been decoded, nothing else.

Class names are left out of everything, ours included; so are things that all clients have (the reference, the encoder of
a linear student, the network's own weights at its start).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.networks.linear_head import Head

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels for images of the reference: `rows` int64 [k] of the pseudo-labels of the course."""

    rows: I64

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of the target with their labels: `files` are stored images, `labels` int64 [k]; `penalty` is that of a
    linear student, which the server has chosen."""

    files: tuple[bytes, ...]
    labels: I64
    penalty: float

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear classifier ready to use; no image is sent."""

    head: Head

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Everything:
    """All of the target's own training images, as they are stored: `images` of them."""

    images: int

    def __len__(self) -> int:
        return self.images


@dataclass(frozen=True, slots=True)
class Known:
    """Something that is not sent but measured beside: its accuracy (0..1) is known, `images` were used."""

    accuracy: float
    images: int

    def __len__(self) -> int:
        return self.images


What = Labels | Pictures | Weights | Everything | Known


@dataclass(frozen=True, slots=True)
class Sent:
    """`size` in bytes that was counted (None: this cannot be sent), what they say, and figures worth keeping. `data` is the
    very file where there is one; the paper's coder is measured, not written."""

    size: int | None
    what: What
    data: bytes | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a method has no row at a budget, and the bytes that it would need, if they are known."""

    note: str
    needs: int | None = None


Answer = Sent | Unfit
Ask = Callable[[Any, int], Answer]  # (course, budget in bytes); what needs no budget is given 0
