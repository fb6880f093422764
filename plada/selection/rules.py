"""Rules by name: which k of the pseudo-labelled images are sent. docs/selecting.md says when to use which."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from plada.labeler.scores import PseudoLabels
from plada.selection.basic import agreed, balanced, balanced_random, highest, lowest, prior, random, safety_net
from plada.selection.near import herd, herd_within, nearest, nearest_sure
from plada.selection.rule import Choose, Chosen, Context, Prepare, Rule
from plada.selection.shares import AXES, evened
from plada.selection.spread import AXES_SAMPLE, principal_axes, spread

__all__ = ["AUTO", "DEFAULT", "RULES", "Chosen", "Context", "Rule"]

AUTO = "auto"  # not a rule: tries some and takes the best (plada.selection.auto)
DEFAULT = "herd-even"  # where nothing can be tried


def herd_even(pool: int) -> Prepare:
    """As `herd`, with quotas that are corrected by what a small student answers (plada.selection.shares)."""

    def prepare(labels: PseudoLabels, context: Context) -> Choose:
        sample = labels.positions[:: max(1, len(labels) // AXES_SAMPLE)]
        axes = principal_axes(context.vectors(sample), AXES)
        return evened(labels, context, herd_within(labels, context, pool), np.asarray(axes, np.float32))

    return prepare


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "herd-even": Rule(herd_even(20), "as herd, with more of the classes that a small student answers too seldom", True),
        "herd": Rule(herd(20), "class-balanced, with the target's class means as their own", True),
        "herd-sure": Rule(herd(8), "as herd, of the images that the teacher is surest of", True),
        "nearest-sure": Rule(nearest_sure, "class-balanced, nearest to the target's training images of the largest margins", True),
        "nearest": Rule(nearest, "class-balanced, nearest to the target's own training images", True),
        "spread": Rule(spread, "class-balanced, largest margins, different from each other"),
        "balanced": Rule(balanced("margin"), "class-balanced, largest margins"),
        "balanced-energy": Rule(balanced("energy"), "class-balanced, lowest energy"),
        "balanced-random": Rule(balanced_random, "class-balanced, otherwise any"),
        "prior": Rule(prior("margin"), "classes as often as in the target, largest margins", True),
        "paper": Rule(safety_net(0.5), "the paper's safety net with alpha 0.5"),
        "paper-0.2": Rule(safety_net(-0.2), "the paper's safety net with alpha -0.2"),
        "energy": Rule(highest("energy"), "the paper's plain rule: lowest energy"),
        "high-energy": Rule(lowest("energy"), "the paper's rule for far-off targets: highest energy"),
        "entropy": Rule(highest("entropy"), "lowest entropy"),
        "margin": Rule(highest("margin"), "largest margins, whatever the class"),
        "max-logit": Rule(highest("max-logit"), "largest logits, whatever the class"),
        "consensus": Rule(agreed(("energy", "entropy", "margin")), "what energy, entropy and margin agree on"),
        "random": Rule(random, "any images: what others have to beat"),
    }
)  # fmt: skip
