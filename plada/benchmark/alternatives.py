"""What else would serve in the same bytes: what `plada select --compare` adds to its forecast."""

from collections.abc import Mapping
from types import MappingProxyType

from plada.benchmark.messages import Message
from plada.benchmark.methods import METHODS
from plada.benchmark.scenario import Scenario

# What is sent, and the benchmark's methods of which the better one counts.
ALTERNATIVES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "quantised head": ("probe-axes", "probe-pruned"),
        "shrunk pictures": ("images-random-shrunk", "images-k-centre-shrunk"),
    }
)


def forecast_alternatives(scenario: Scenario, budget: int) -> dict[str, float]:
    """Accuracy (0..1) expected of each alternative in at most `budget` bytes; what does not fit is left out.

    A head is judged by cross-validation on the target's own images, pictures on those of them that are not sent. No test image is
    looked at. Class names are not counted. A head serves clients with the index's encoder alone.
    """
    expected: dict[str, float] = {}
    for name, methods in ALTERNATIVES.items():
        outcomes = [METHODS[method].send(scenario, budget) for method in methods]
        figures = [outcome.detail["expected"] for outcome in outcomes if isinstance(outcome, Message)]
        # None: all pictures fit, and none is left to judge by.
        known = [float(figure) for figure in figures if figure is not None]
        if known:
            expected[name] = max(known)
    return expected
