"""Rules by name: which k of the pseudo-labelled images are sent. docs/selecting.md says when to use which."""

from collections.abc import Mapping
from types import MappingProxyType

from plada.selection.duplicates import copies_last
from plada.selection.rules.basic import (
    agreed,
    balanced,
    balanced_random,
    highest,
    lowest,
    prior,
    random,
    reliable,
    safety_net,
)
from plada.selection.rules.near import NEAR_EQUAL, densest, herd, herd_within, nearest, nearest_sure, nearest_within
from plada.selection.rules.rule import Chosen, Context, Rule
from plada.selection.rules.shares import evened
from plada.selection.rules.spread import spread, spread_within

__all__ = ["AUTO", "DEFAULT", "RULES", "Chosen", "Context", "Rule"]

AUTO = "auto"  # not a rule: tries some and takes the best (plada.selection.auto)
DEFAULT = "herd-even"  # where nothing can be tried


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "herd-even": Rule(evened(herd_within(20)), "as herd, with more of the classes that a small student answers too seldom", True),
        "herd-open-even": Rule(evened(herd_within(20, NEAR_EQUAL)), "as herd-even, with images of folders that are open already first among near-equals", True),
        "herd-sure-even": Rule(evened(herd_within(8)), "as herd-even, of the images that the teacher is surest of", True),
        "herd-distinct-even": Rule(copies_last(evened(herd_within(20))), "as herd-even, with near-duplicates left for last", True),
        "nearest-sure-even": Rule(evened(nearest_within), "as nearest-sure, with such quotas", True),
        "spread-even": Rule(evened(spread_within), "as spread, with such quotas", True),
        "herd": Rule(herd(20), "class-balanced, with the target's class means as their own", True),
        "herd-sure": Rule(herd(8), "as herd, of the images that the teacher is surest of", True),
        "nearest-sure": Rule(nearest_sure, "class-balanced, nearest to the target's training images of the largest margins", True),
        "nearest": Rule(nearest, "class-balanced, nearest to the target's own training images", True),
        "spread": Rule(spread, "class-balanced, largest margins, different from each other"),
        "balanced": Rule(balanced("margin"), "class-balanced, largest margins"),
        "balanced-energy": Rule(balanced("energy"), "class-balanced, lowest energy"),
        "balanced-random": Rule(balanced_random, "class-balanced, otherwise any"),
        "prior": Rule(prior("margin"), "classes as often as in the target, largest margins", True),
        "reliable": Rule(reliable("margin"), "as balanced, of no class more than the teacher is thought right about", True),
        "density": Rule(densest, "nearest to any training image of the target, whatever the class", True),
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
