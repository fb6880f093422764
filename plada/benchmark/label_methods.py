"""Methods that send labels of reference images: our selections as whole files, the paper's rules under the paper's coder."""

from typing import Any

import numpy as np

from plada.benchmark.messages import DoesNotFit, Message, Outcome, ReferenceLabels, SendMethod
from plada.benchmark.scenario import Scenario
from plada.errors import BudgetTooSmall
from plada.payload.coders.paper_coders import paper_sizes

CURVE = ("energy", "random", "herd-sure")  # rules that are followed over all keep rates
KEPT = (*CURVE, "high-energy", "paper", "paper-0.2", "entropy")  # rules that are compared at the lowest keep rate
_CODED = ("energy", "herd-sure")  # rules whose sizes are taken under every coder
CODERS = ("raw", "huffman", "zstd", "ours, manifest", "ours, pack")  # the paper's three, ours for two kinds of clients
_MAX_PACKED = 2000  # images up to which sizes with a pack are measured: its coder is slow


def send_selection(has: str, only: str | None = None) -> SendMethod:
    """`auto`, or the rule `only`, for clients that have the manifest or the pack: the file that `plada select` writes."""

    def send(scenario: Scenario, budget: int) -> Outcome:
        try:
            choice = scenario.auto(budget, has, only=only)
        except BudgetTooSmall as err:
            return DoesNotFit("one label a class needs more", err.least)
        data, arrived = scenario.file(has, choice.trial.selection.rows)
        return Message(len(data), ReferenceLabels(arrived), data, {"rule": choice.rule})

    return send


def send_paper_rule(rule: str) -> SendMethod:
    """As many images of one of the paper's rules, or of random ones, as the paper's coder fits into the budget, without header."""

    def send(scenario: Scenario, budget: int) -> Outcome:
        fitting = scenario.fit_paper_coder(rule, budget)
        if fitting is None:
            return DoesNotFit("one label needs more")
        rows, size = fitting
        return Message(size, ReferenceLabels(np.sort(rows)), None, {"rule": rule})

    return send


def send_at_keep_rate(scenario: Scenario, rule: str, keep: float) -> Message:
    """A rule at a share of the reference, as in the paper's tables; bytes are those of the paper's coder. For some rules
    `detail` holds the sizes under every coder."""
    k = max(1, int(keep * len(scenario.index) + 1e-9))
    rows = np.sort(scenario.choices(rule)(min(k, len(scenario.labels))).rows)
    positions, labels = scenario.labels.positions[rows], scenario.labels.labels[rows]
    sizes = paper_sizes(positions, labels, len(scenario.index), scenario.classes)
    zstd = min(sizes["index-zstd"], sizes["bitmap-zstd"])
    if rule not in _CODED:
        return Message(zstd, ReferenceLabels(rows))
    coders: dict[str, Any] = {
        "raw": min(sizes["raw-index"], sizes["raw-bitmap"]),
        "huffman": min(sizes["huffman-index"], sizes["huffman-bitmap"]),
        "zstd": zstd,
        "ours, manifest": scenario.size("manifest", rows),
    }
    if scenario.pack is not None and len(rows) <= _MAX_PACKED:
        coders["ours, pack"] = scenario.size("pack", rows)
    return Message(zstd, ReferenceLabels(rows), None, {"coders": coders})
