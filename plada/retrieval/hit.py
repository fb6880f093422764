"""What a search finds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result.

    Attributes:
        position: Position of the image in the reference.
        key: Key of the image.
        score: Cosine of the angle between the image's embedding and the query's.
    """

    position: int
    key: str
    score: float
