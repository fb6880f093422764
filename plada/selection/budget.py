"""The largest selection whose file fits into the budget, found with real encoded sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from plada.errors import BudgetTooSmall

T = TypeVar("T")
_ENOUGH = 0.995  # share of the budget at which the search is content
_MOST_TRIALS = 12


@dataclass(frozen=True, slots=True)
class Trial(Generic[T]):
    """A selection of `k` images, and the bytes of its file."""

    k: int
    bytes: int
    made: T


def fill_budget(make: Callable[[int], tuple[T, int]], *, budget: int, least: int, most: int, classes: int) -> Trial[T]:
    """Search k in least..most for the largest file of at most `budget` bytes; `make(k)` gives (selection, bytes).

    Sizes grow with k almost, not quite, everywhere: the search is by false position between a size that fits and one
    that does not, and what it returns has been encoded and does fit.

    Raises:
        BudgetTooSmall: not even `least` images (one a class) fit; names the bytes that they need.
    """
    made, size = make(least)
    if size > budget:
        raise BudgetTooSmall(budget=budget, least=size, classes=classes)
    best = Trial(least, size, made)
    low = best
    high: tuple[int, int | None] = (most + 1, None)  # images, and bytes where they are known
    guess = most if size * most <= budget * least else max(least + 1, int(least + (budget - size) / 1.5))
    for _ in range(_MOST_TRIALS):
        guess = min(max(guess, low.k + 1), high[0] - 1)
        if guess <= low.k:
            break
        made, size = make(guess)
        if size <= budget:
            low = Trial(guess, size, made)
            best = low if (low.bytes, low.k) > (best.bytes, best.k) else best
            if low.bytes >= _ENOUGH * budget:
                break
        else:
            high = (guess, size)
        guess = _next(low, high, budget)
    return best


def _next(low: Trial[T], high: tuple[int, int | None], budget: int) -> int:
    """Where the line through both ends meets the budget, kept off the ends so that each trial narrows the gap."""
    if high[1] is None:
        # No size is known above: go on at the rate seen so far, a little short of the budget.
        return int(low.k * budget / low.bytes * 0.998) if low.bytes < budget else low.k + 1
    gap = high[0] - low.k
    guess = low.k + gap * (budget * 0.998 - low.bytes) / max(high[1] - low.bytes, 1)
    return int(min(max(guess, low.k + gap * 0.02), high[0] - gap * 0.02))
