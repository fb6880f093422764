"""What a report says of a payload, as plain values: collected before any of it is written as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

BINS = 32  # of a histogram of scores
FEW = 5  # images below which a class has few, whatever the others have


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One chosen image. `rank` is its place in its class, 0 the best (by position where no score is known); `url` a data:
    URL of its thumbnail, "" where it could not be shown, and then `problem` says why."""

    position: int
    key: str
    rank: int
    score: float | None
    url: str
    width: int = 0
    height: int = 0
    problem: str = ""
    name: str = ""  # of the synset in its key, where names are known


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Scores of a class: the best, the quartiles and the last."""

    best: float
    upper: float
    median: float
    lower: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFacts:
    """One class: how many images of the reference the teacher calls so (`before`) and how many were chosen (`after`), None
    where that is not known; its scores; and the pictures that are shown, in the rule's order."""

    name: str
    before: int | None
    after: int | None
    scores: Spread | None = None
    pictures: tuple[Picture, ...] = ()
    few: bool = False  # much fewer images were chosen than of other classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A share of images named right, of whom and on what, with its 95 % interval where there is one."""

    who: str
    on: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """`counts[i][j]` test images of class i were called j, `images` in all; `pairs` are the worst (class, called, count)."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    images: int
    pairs: tuple[tuple[str, str, int], ...]
    url: str = ""  # a picture of it, where there are too many classes for a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Images by score: `counts` [BINS] between `low` and `high`, in bins of equal width."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that a report says. What is None or empty is not known; `unknown` says in words what that is, and what to do."""

    title: str
    target: str | None
    rule: str | None
    version: int
    bytes: int
    budget: int | None
    images: int | None
    reference: int
    classes: tuple[ClassFacts, ...]
    ranked: bool  # pictures stand by score, not by position
    accuracies: tuple[Accuracy, ...]
    points: tuple[tuple[int, float], ...]  # (bytes, accuracy that is forecast) of other budgets
    confusion: Confusion | None
    histogram: Histogram | None
    sections: Mapping[str, int]
    coder: str | None
    coders: Mapping[str, int]
    paper: Mapping[str, int]
    bits: tuple[tuple[str, float, float], ...]  # (positions or labels, bits an image, what a free choice would take)
    air: Mapping[int, float]
    identity: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]  # (what it does, the line)
    remarks: tuple[str, ...]
    unknown: tuple[str, ...]
    excluded: tuple[str, ...] = ()  # keys that were rejected before; the next list must name them, too
    relabelled: tuple[tuple[str, str], ...] = ()  # (key, class) of earlier corrections

    @property
    def pictures(self) -> int:
        """Images that are shown."""
        return sum(bool(picture.url) for each in self.classes for picture in each.pictures)


def fair_shares(counts: Sequence[int], limit: int) -> list[int]:
    """How many of `limit` places each group gets: the same number for all; what small groups leave goes to the others.
    With more groups than places, groups at even distances get one each.

    >>> fair_shares([100, 2, 50], 30)
    [14, 2, 14]
    """
    filled = [number for number, count in enumerate(counts) if count > 0]
    if len(filled) > limit:
        taken = {filled[len(filled) * place // limit] for place in range(limit)}
        return [int(number in taken) for number in range(len(counts))]
    level, left = 0, limit
    for rank, count in enumerate(sorted(count for count in counts if count > 0)):
        groups = len(filled) - rank
        if (count - level) * groups > left:
            level += left // groups
            break
        left -= (count - level) * groups
        level = count
    return [min(count, level) for count in counts]


def few_images(counts: Sequence[int]) -> int:
    """Images below which a class has few: a fifth of the mean over classes, and FEW at least.

    >>> few_images([100, 90, 14, 100]), few_images([9, 3])
    (15, 5)
    """
    return max(FEW, round(sum(counts) / max(len(counts), 1) / 5))


def even_ranks(count: int, places: int) -> list[int]:
    """Ranks 0 .. count-1, the first and the last among them, at most `places` of them and evenly between.

    >>> even_ranks(9, 3)
    [0, 4, 8]
    """
    if places >= count:
        return list(range(count))
    if places < 2:
        return [0][:places]
    return [round(place * (count - 1) / (places - 1)) for place in range(places)]


def score_spread(scores: Sequence[float]) -> Spread | None:
    """The spread of some scores; None of none. Quartiles are scores that are really there (the nearest rank)."""
    if not len(scores):
        return None
    ordered = sorted(map(float, scores), reverse=True)
    upper, median, lower = (ordered[round(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75))
    return Spread(best=ordered[0], upper=upper, median=median, lower=lower, last=ordered[-1])


def thin(findings: Findings, limit: int) -> Findings:
    """The same with at most `limit` pictures, evenly from those of each class."""
    places = fair_shares([len(each.pictures) for each in findings.classes], limit)
    classes = tuple(
        replace(each, pictures=tuple(each.pictures[rank] for rank in even_ranks(len(each.pictures), place)))
        for each, place in zip(findings.classes, places, strict=True)
    )
    return replace(findings, classes=classes)
