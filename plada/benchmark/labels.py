"""Methods that send labels of reference images: ours in whole files, the paper's rules under the paper's coder."""

from typing import Any

import numpy as np
import numpy.typing as npt

from plada.benchmark.course import Course
from plada.benchmark.sent import Answer, Ask, Labels, Sent, Unfit
from plada.errors import BudgetTooSmall
from plada.payload.coders.paper import paper_sizes

I64 = npt.NDArray[np.int64]
CURVE = ("energy", "random", "herd-even")  # rules that are followed over all keep rates
KEPT = (*CURVE, "high-energy", "paper", "paper-0.2", "entropy")  # rules that are compared at the lowest keep rate
_CODED = ("energy", "herd-even")  # rules whose sizes are taken under every coder
CODERS = ("raw", "huffman", "zstd", "ours, manifest", "ours, pack")  # the paper's three, ours for two kinds of clients
_DEAR = 2000  # images from which on the pack's coder is not asked in a benchmark


def ours(has: str, only: str | None = None) -> Ask:
    """`auto`, or the rule `only`, for clients that have the manifest or the pack: the file as `plada select` writes it."""

    def ask(course: Course, budget: int) -> Answer:
        try:
            found = course.auto(budget, has, only=only)
        except BudgetTooSmall as err:
            return Unfit("one label a class needs more", err.least)
        data, arrived = course.file(has, found.trial.selection.rows)
        return Sent(len(data), Labels(arrived), data, {"rule": found.rule})

    return ask


def under_the_papers_coder(rule: str) -> Ask:
    """A rule that the paper has, or any images, as many as the paper's coder brings into the budget; no header counted."""

    def ask(course: Course, budget: int) -> Answer:
        found = course.under_the_papers_coder(rule, budget)
        if found is None:
            return Unfit("one label needs more")
        return Sent(found[1], Labels(np.sort(found[0])), None, {"rule": rule})

    return ask


def at_keep_rate(course: Course, rule: str, keep: float) -> Sent:
    """A rule at a share of the reference, as the paper has its tables; bytes are those of the paper's coder. `detail` holds
    the sizes under every coder for some rules."""
    k = max(1, int(keep * len(course.index) + 1e-9))
    rows = np.sort(course.choices(rule)(min(k, len(course.labels))).rows)
    positions, labels = course.labels.positions[rows], course.labels.labels[rows]
    sizes = paper_sizes(positions, labels, len(course.index), course.classes)
    zstd = min(sizes["index-zstd"], sizes["bitmap-zstd"])
    if rule not in _CODED:
        return Sent(zstd, Labels(rows))
    coders: dict[str, Any] = {
        "raw": min(sizes["raw-index"], sizes["raw-bitmap"]),
        "huffman": min(sizes["huffman-index"], sizes["huffman-bitmap"]),
        "zstd": zstd,
        "ours, manifest": course.size("manifest", rows),
    }
    if course.pack is not None and len(rows) <= _DEAR:
        coders["ours, pack"] = course.size("pack", rows)
    return Sent(zstd, Labels(rows), None, {"coders": coders})
