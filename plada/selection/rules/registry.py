"""Rules by name: which k of the pseudo-labelled images are sent. docs/rules.md says what each is for."""

from collections.abc import Mapping
from types import MappingProxyType

from plada.selection.rules.basic import agreed, balanced, balanced_random, highest, lowest, random, safety_net
from plada.selection.rules.herding import core, herd
from plada.selection.rules.nearest import nearest, nearest_sure
from plada.selection.rules.rule import Rule
from plada.selection.rules.shares import herd_even, herd_sure
from plada.selection.rules.spread import spread

AUTO = "auto"  # not a rule: tries some and takes the best (plada.selection.auto)
DEFAULT = "herd-sure"  # where nothing can be tried
BLIND = "spread"  # the rule of `auto` for a target without images
_ENERGY = ("margin", "energy")

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "herd-sure": Rule(herd_sure, "as herd-even, from the surest fifth of each class alone", True),
        "core": Rule(core, "class-balanced, 300 images as herd takes them, then the largest margins", True),
        "herd-even": Rule(herd_even, "as herd, with more of the classes that a small student answers too seldom", True),
        "herd": Rule(herd, "class-balanced, with the target's class means as their own", True),
        "nearest-sure": Rule(nearest_sure, "class-balanced, nearest to the target's training images of the largest margins", True),
        "nearest": Rule(nearest, "class-balanced, nearest to the target's own training images", True),
        "spread": Rule(spread, "class-balanced, largest margins, different from each other"),
        "balanced": Rule(balanced, "class-balanced, largest margins"),
        "balanced-random": Rule(balanced_random, "class-balanced, otherwise any"),
        "paper": Rule(safety_net(0.5), "the paper's safety net with alpha 0.5", scores=_ENERGY),
        "paper-0.2": Rule(safety_net(-0.2), "the paper's safety net with alpha -0.2", scores=_ENERGY),
        "energy": Rule(highest("energy"), "the paper's plain rule: lowest energy", scores=_ENERGY),
        "high-energy": Rule(lowest("energy"), "the paper's rule for far-off targets: highest energy", scores=_ENERGY),
        "entropy": Rule(highest("entropy"), "lowest entropy", scores=("margin", "entropy")),
        "consensus": Rule(agreed(("energy", "entropy", "margin")), "what energy, entropy and margin agree on", scores=("margin", "energy", "entropy")),
        "random": Rule(random, "any images: what others have to beat"),
    }
)  # fmt: skip
