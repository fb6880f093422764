"""`plada bench --preset paper`: the protocol of arXiv 2602.23358 v1 as far as its text states it, and what had to be filled in.

The paper states: a ConvNeXt-V2-Tiny teacher from ImageNet-21K weights, fine-tuned on the target; the label of the largest logit for every
image of the reference; keep rates, rules, zstd-19; a ResNet-18 student from pre-trained weights, AdamW at 1e-3 with a cosine schedule, 5
epochs on ImageNet-21K and 30 on ImageNet-1K.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from plada.errors import RequestError, UnknownName
from plada.labeler.teachers import TeacherSpec
from plada.networks.network import NetworkSpec
from plada.trainer.run import LINEAR

PAPER = "paper"
TEACHER = "finetune:convnextv2_tiny"
STUDENT = NetworkSpec(name="resnet18", pretrained=True)
KEEP = ("1%", "5%", "10%", "25%", "50%", "100%")
BUDGETS = (150_837,)  # 147.3 KB of 1024 bytes, the mean of its table 2
METHODS = ("oracle", "random", "images-random", "images-k-centre", "full-data")
NATURAL = ("caltech101", "cifar10", "cub200:split=paper", "dtd", "fgvc-aircraft", "food101", "flowers102", "pets", "places365", "resisc45")  # fmt: skip
FAR = ("bloodmnist", "dermamnist", "retinamnist", "nct-crc-he")
EPOCHS_LARGE, EPOCHS_SMALL = 5, 30
_LARGE = 5_000_000  # images of a reference that is trained on as on ImageNet-21K


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What a benchmark by the paper's protocol runs, and the gaps that were filled, a line each."""

    teacher: TeacherSpec
    student: NetworkSpec
    recipe: Mapping[str, object]
    gaps: tuple[str, ...]


def protocol(
    preset: str, images: int, *, teacher: TeacherSpec | None, student: NetworkSpec, recipe: Mapping[str, object]
) -> Protocol:
    """The paper's protocol on a reference of so many images. A `teacher`, a network as `student` and options of `recipe` that are given
    win over it, and are named among the gaps.

    Raises:
        UnknownName: no such preset. RequestError: the teacher has no weights to start from.
    """
    if preset != PAPER:
        raise UnknownName("preset", preset, [PAPER])
    given = teacher or TeacherSpec(names=TEACHER)
    if teacher is None or (given.names == TEACHER and given.weights is None):
        raise RequestError(
            f"preset {PAPER}: its teacher starts from ImageNet-21K weights of convnextv2_tiny. Give the file with --teacher-weights, or "
            "name another --teacher"
        )
    epochs = EPOCHS_LARGE if images > _LARGE else EPOCHS_SMALL
    chosen = STUDENT if student.name == LINEAR else student
    stated: dict[str, object] = {"epochs": epochs, "learning_rate": 1e-3, "body_rate": 1.0}
    changed = {name: value for name, value in recipe.items() if stated.get(name) not in (None, value)}
    other = [
        f"{what} {mine}, not the paper's {theirs}"
        for what, mine, theirs in (("teacher", given.names, TEACHER), ("student", chosen.name, STUDENT.name))
        if mine != theirs
    ]
    other += [f"recipe {name}={value}, not the paper's {stated[name]}" for name, value in changed.items()]
    return Protocol(
        teacher=replace(given, exhaustive=True),
        student=chosen,
        recipe={**stated, **recipe},
        gaps=(*other, *_gaps(images, epochs, chosen, given.weights)),
    )


def _gaps(images: int, epochs: int, student: NetworkSpec, weights: str | Path | None) -> tuple[str, ...]:
    start = "weights of timm's tag" if student.pretrained else f"the weights {Path(student.weights).name}" if student.weights else "random weights"  # fmt: skip
    return (
        f"Epochs for other references than ImageNet-21K (5) and ImageNet-1K (30) are not stated: {epochs} for {images} images "
        f"({EPOCHS_LARGE} above {_LARGE}).",
        f"Which weights the student starts from is not stated: {start}.",
        "The teacher's optimiser, epochs and batch size are not stated: AdamW, averaged weights, early stopping on held-out training images"
        + (f", from {Path(weights).name}." if weights else ", from random weights."),
        "Batch size, weight decay, warm-up, augmentation, label smoothing, image size and precision are not stated: plada's recipe.",
        "The share s of the budget that the safety net reserves is not stated, nor what happens when a quota exceeds its class: "
        "docs/rules.md has what `paper` and `paper-0.2` do.",
        "The temperature of the energies is not stated: 1.",
        "The order of the reference's images, which decides the sizes, is not stated: by key, so by folder.",
        "Whether positions and labels are one zstd frame is not stated: one, level 19.",
        "Seeds and repeats are not stated; splits of Caltech-101, CUB-200 and RESISC45 are the authors' own: the registered targets' "
        "(docs/datasets.md).",
        "The best rule for each target is picked by test accuracy, as in the paper's table 2 (`oracle`).",
        "The picture baselines of table 2 have 100 and 500 pictures of unstated resolution: here as many as fit the bytes of the labels.",
        "Dataset distillation and figure 5's weights are not run: it gives neither code nor sizes.",
    )
