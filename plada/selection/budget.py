"""The largest selection whose file fits into the budget, found with real encoded sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from plada.common.units import parse_share
from plada.errors import BudgetTooSmall

T = TypeVar("T")
_ENOUGH = 0.995  # share of the budget at which the search is content
_AIM = 0.998
_MAX_TRIALS = 12
_BYTES_AN_IMAGE = 1.5  # a first guess


@dataclass(frozen=True, slots=True)
class Trial(Generic[T]):
    """A selection of `k` images, and the bytes of its file."""

    k: int
    bytes: int
    selection: T


def images_at(keep: str | float | None, images: int) -> int | None:
    """Images that a keep rate stands for: floor(rate x images), as the paper counts them; None where no rate is given.

    Raises:
        RequestError: not a share above 0 and up to 1.
    """
    return None if keep is None else max(1, int(parse_share(keep) * images + 1e-9))


def fill_budget(
    select: Callable[[int], tuple[T, int]],
    *,
    budget: int,
    min_images: int,
    max_images: int,
    classes: int,
    guess: int | None = None,
) -> Trial[T]:
    """Search k in min_images..max_images for the largest selection in at most `budget` bytes; `select(k)` gives (selection,
    bytes).

    Sizes grow with k almost, not quite, everywhere: the search is by false position between a size that fits and one
    that does not, and what it returns has been encoded and does fit. `guess` is a number of images to try first.

    Raises:
        BudgetTooSmall: not even `min_images` (one a class) fit; names the bytes that they need.
    """
    selection, size = select(min_images)
    if size > budget:
        raise BudgetTooSmall(budget=budget, least=size, classes=classes)
    first = low = Trial(min_images, size, selection)
    high: tuple[int, int] | None = None  # images and bytes of the smallest selection that did not fit
    for turn in range(_MAX_TRIALS):
        ceiling = high[0] - 1 if high is not None else max_images
        if low.k >= ceiling:
            break
        wanted = guess if guess is not None and not turn else _next(first, low, high, budget)
        k = min(max(wanted, low.k + 1), ceiling)
        selection, size = select(k)
        if size > budget:
            high = (k, size)
            continue
        low = Trial(k, size, selection)
        if low.bytes >= _ENOUGH * budget:
            break
    return low


def _next(first: Trial[T], low: Trial[T], high: tuple[int, int] | None, budget: int) -> int:
    """Where a line through the known sizes meets the budget, a little short of it."""
    room = _AIM * budget - low.bytes
    if high is None:
        done = low.k - first.k
        slope = (low.bytes - first.bytes) / done if done else _BYTES_AN_IMAGE
        # A slope from few images may be far off: while the budget is far away, at least double the way gone.
        return int(low.k + max(room / max(slope, 0.05), done if low.bytes < 0.9 * budget else 0))
    gap = high[0] - low.k
    guess = low.k + gap * room / max(high[1] - low.bytes, 1)
    # Kept off both ends, so that every trial narrows the gap.
    return int(min(max(guess, low.k + gap * 0.02), high[0] - gap * 0.02))
