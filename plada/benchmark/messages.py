"""What a method sends to a client. The student sees what was decoded from it, nothing else.

Class names are left out of all messages, ours included, and so is what every client has: the reference, the encoder of a
linear student, the weights that a network starts from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plada.common.arrays import I64
from plada.networks.linear_head import Head


@dataclass(frozen=True, slots=True)
class ReferenceLabels:
    """Labels for images of the reference: `rows` int64 [k] of the scenario's pseudo-labels."""

    rows: I64

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class TargetPictures:
    """Pictures of the target as image files, with labels int64 [k]; `penalty` is a linear student's, chosen by the server."""

    files: tuple[bytes, ...]
    labels: I64
    penalty: float

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class ProbeWeights:
    """A linear classifier ready to use; no image is sent."""

    head: Head

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class AllTargetImages:
    """All `images` of the target's own training images, as they are stored."""

    images: int

    def __len__(self) -> int:
        return self.images


@dataclass(frozen=True, slots=True)
class KnownAccuracy:
    """Nothing that is sent: an accuracy (0..1) that is known already, with the number of `images` behind it."""

    accuracy: float
    images: int

    def __len__(self) -> int:
        return self.images


Content = ReferenceLabels | TargetPictures | ProbeWeights | AllTargetImages | KnownAccuracy


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: `size` in bytes (None: it cannot be sent), what they hold, and figures for the table.

    `data` is the file where there is one; the paper's coder is measured, not written.
    """

    size: int | None
    content: Content
    data: bytes | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DoesNotFit:
    """Why a method has no message at a budget, and the bytes that it needs, where that is known."""

    note: str
    needs: int | None = None


Outcome = Message | DoesNotFit
SendMethod = Callable[[Any, int], Outcome]  # (scenario, budget in bytes; 0 for methods that need no budget)
