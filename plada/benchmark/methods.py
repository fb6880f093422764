"""The methods of the benchmark by name. docs/bench.md says what each one sends and what is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from plada.benchmark.gaussian_methods import send_gaussians
from plada.benchmark.image_methods import known_teacher, send_full_data, send_pictures
from plada.benchmark.label_methods import send_paper_rule, send_selection
from plada.benchmark.messages import SendMethod
from plada.benchmark.probe_methods import principal_basis, pruned_basis, send_int8_probe, send_quantised_probe
from plada.benchmark.random_heads import send_random_combination
from plada.errors import UnknownName
from plada.selection.rules.registry import DEFAULT

OURS, PAPER, IMAGES, WEIGHTS, BOUNDS = "ours", "paper", "images", "weights", "bounds"
ORACLE = "oracle"  # not a method: the best of the paper's rules by test accuracy, per target, budget and seed
PAPERS_RULES = ("energy", "high-energy", "paper", "paper-0.2", "entropy")


@dataclass(frozen=True, slots=True)
class Method:
    """A way to teach a client. `send` gives the message for a scenario and a budget; `about` is a line for people.

    `once`: it needs no budget. `linear`: it is for linear students only. `has`: what clients must have for it.
    """

    send: SendMethod
    group: str
    about: str
    once: bool = False
    linear: bool = False
    has: str = ""


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "auto-pack": Method(send_selection("pack"), OURS, "plada select, clients have the pack", has="pack"),
        "auto-manifest": Method(send_selection("manifest"), OURS, "plada select, clients have the manifest"),
        "herd-sure-pack": Method(send_selection("pack", DEFAULT), OURS, "one fixed rule of ours, pack", has="pack"),
        "herd-sure-manifest": Method(send_selection("manifest", DEFAULT), OURS, "one fixed rule of ours, manifest"),
        "energy": Method(send_paper_rule("energy"), PAPER, "lowest energy, the paper's coder"),
        "high-energy": Method(send_paper_rule("high-energy"), PAPER, "highest energy, the paper's coder"),
        "paper": Method(send_paper_rule("paper"), PAPER, "safety net, alpha 0.5, the paper's coder"),
        "paper-0.2": Method(send_paper_rule("paper-0.2"), PAPER, "safety net, alpha -0.2, the paper's coder"),
        "entropy": Method(send_paper_rule("entropy"), PAPER, "lowest entropy, the paper's coder"),
        "random": Method(send_paper_rule("random"), PAPER, "any images with their labels, the paper's coder"),
        "images-random": Method(send_pictures("random", shrink=False), IMAGES, "target images, class-balanced, JPEG q30"),
        "images-k-centre": Method(send_pictures("k-centre", shrink=False), IMAGES, "target images, k-centre a class, JPEG q30"),
        "images-random-shrunk": Method(send_pictures("random", shrink=True), IMAGES, "class-balanced, shrunk to the side that teaches best"),
        "images-k-centre-shrunk": Method(send_pictures("k-centre", shrink=True), IMAGES, "k-centre a class, shrunk to the side that teaches best"),
        "probe-pruned": Method(send_quantised_probe("pruned", pruned_basis), WEIGHTS, "linear probe, pruned and quantised", linear=True),
        "probe-axes": Method(send_quantised_probe("axes", principal_basis), WEIGHTS, "linear probe on the reference's main axes, quantised", linear=True),
        "probe-int8": Method(send_int8_probe, WEIGHTS, "the whole linear probe, INT8", once=True, linear=True),
        "gaussians": Method(send_gaussians, WEIGHTS, "a Gaussian of features for each class, after FedPFT", linear=True),
        "random-heads": Method(send_random_combination, WEIGHTS, "a probe as a sum of random ones from a seed, after PRANC", linear=True),
        "full-data": Method(send_full_data, BOUNDS, "all of the target's training images", once=True),
        "teacher": Method(known_teacher, BOUNDS, "what labels the reference; not sent", once=True),
    }
)  # fmt: skip


def choose_methods(names: str | Sequence[str] | None, *, linear: bool) -> tuple[str, ...]:
    """Names of methods in the registry's order: all that suit the student, or those asked for (commas, or a sequence);
    `oracle` stands for the paper's rules. The teacher is always among them. Raises UnknownName: no such method; the
    nearest is named."""
    if names is None:
        chosen = {name for name, method in METHODS.items() if linear or not method.linear}
    else:
        listed = [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
        for name in listed:
            if name not in METHODS and name != ORACLE:
                raise UnknownName("method", name, [*METHODS, ORACLE])
        chosen = {*listed, "teacher"} - {ORACLE} | (set(PAPERS_RULES) if ORACLE in listed else set())
    return tuple(name for name in METHODS if name in chosen)
