"""The methods by name. docs/bench.md says of each what is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from plada.benchmark.images import full_data, sending_pictures, the_teacher
from plada.benchmark.labels import ours, under_the_papers_coder
from plada.benchmark.sent import Ask
from plada.benchmark.weights import in_few_bits, int8_probe, principal_basis, pruned_basis
from plada.errors import UnknownName
from plada.selection.rules.registry import DEFAULT

OURS, PAPER, IMAGES, WEIGHTS, BOUNDS = "ours", "paper", "images", "weights", "bounds"
ORACLE = "oracle"  # not a method: the best of the paper's rules by test accuracy, per target, budget and seed
PAPERS_RULES = ("energy", "high-energy", "paper", "paper-0.2", "entropy")


@dataclass(frozen=True, slots=True)
class Method:
    """`ask` gives what is sent for a course in a budget; with `once` it needs no budget. `about` is a line for people;
    `linear`: only where the student is linear; `has`: what clients must have for it (the pack must be made)."""

    ask: Ask
    group: str
    about: str
    once: bool = False
    linear: bool = False
    has: str = ""


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "auto-pack": Method(ours("pack"), OURS, "plada select, clients have the pack", has="pack"),
        "auto-manifest": Method(ours("manifest"), OURS, "plada select, clients have the manifest"),
        "herd-even-pack": Method(ours("pack", DEFAULT), OURS, "one fixed rule of ours, pack", has="pack"),
        "herd-even-manifest": Method(ours("manifest", DEFAULT), OURS, "one fixed rule of ours, manifest"),
        "energy": Method(under_the_papers_coder("energy"), PAPER, "lowest energy, the paper's coder"),
        "high-energy": Method(under_the_papers_coder("high-energy"), PAPER, "highest energy, the paper's coder"),
        "paper": Method(under_the_papers_coder("paper"), PAPER, "safety net, alpha 0.5, the paper's coder"),
        "paper-0.2": Method(under_the_papers_coder("paper-0.2"), PAPER, "safety net, alpha -0.2, the paper's coder"),
        "entropy": Method(under_the_papers_coder("entropy"), PAPER, "lowest entropy, the paper's coder"),
        "random": Method(under_the_papers_coder("random"), PAPER, "any images with their labels, the paper's coder"),
        "images-random": Method(sending_pictures("random", shrink=False), IMAGES, "target images, class-balanced, JPEG q30"),
        "images-k-centre": Method(sending_pictures("k-centre", shrink=False), IMAGES, "target images, k-centre a class, JPEG q30"),
        "images-random-shrunk": Method(sending_pictures("random", shrink=True), IMAGES, "class-balanced, shrunk to the side that teaches best"),
        "images-k-centre-shrunk": Method(sending_pictures("k-centre", shrink=True), IMAGES, "k-centre a class, shrunk to the side that teaches best"),
        "probe-pruned": Method(in_few_bits("pruned", pruned_basis), WEIGHTS, "linear probe, pruned and quantised", linear=True),
        "probe-axes": Method(in_few_bits("axes", principal_basis), WEIGHTS, "linear probe on the reference's main axes, quantised", linear=True),
        "probe-int8": Method(int8_probe, WEIGHTS, "the whole linear probe, INT8", once=True, linear=True),
        "full-data": Method(full_data, BOUNDS, "all of the target's training images", once=True),
        "teacher": Method(the_teacher, BOUNDS, "what labels the reference; not sent", once=True),
    }
)  # fmt: skip


def pick_methods(names: str | Sequence[str] | None, *, linear: bool) -> tuple[str, ...]:
    """Names of methods in the registry's order: all that suit the student, or those asked for (commas, or a sequence);
    `oracle` stands for the paper's rules. The teacher is always among them.

    Raises:
        UnknownName: no such method; the nearest is named.
    """
    if names is None:
        asked = {name for name, method in METHODS.items() if linear or not method.linear}
    else:
        listed = [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
        for name in listed:
            if name not in METHODS and name != ORACLE:
                raise UnknownName("method", name, [*METHODS, ORACLE])
        asked = {*listed, "teacher"} - {ORACLE} | (set(PAPERS_RULES) if ORACLE in listed else set())
    return tuple(name for name in METHODS if name in asked)
