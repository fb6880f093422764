"""What clients make of what arrived, and how good it is on the target's test images.

The student `linear` stands on the index's frozen embeddings, whatever was sent. A network trains on the reference's images
(labels), or on the pictures; it cannot be sent as weights in kilobytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plada.api.train import train
from plada.benchmark.course import Course
from plada.benchmark.images import head_of_pictures
from plada.benchmark.sent import Everything, Known, Labels, Pictures, Unfit, Weights, What
from plada.networks.data import Held
from plada.networks.finetune import finetune
from plada.networks.loop import fit
from plada.networks.network import build_network, seed_everything, view_of
from plada.networks.recipe import default_recipe
from plada.sources.decode import decode
from plada.trainer.student import evaluate

LINEAR = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Students:
    """Which student is trained, and how; for a network as `plada train` takes it."""

    student: str = LINEAR
    weights: Path | None = None
    pretrained: bool = False
    model_args: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None


def score(course: Course, what: What, plan: Students) -> float | Unfit:
    """Share of the test images that a student of what arrived names right."""
    if isinstance(what, Known):
        return what.accuracy
    if plan.student == LINEAR:
        return _linear(course, what)
    if isinstance(what, Weights):
        return Unfit(f"a linear probe is no {plan.student}; its own weights are megabytes")
    if len(what) < 2:
        return Unfit(f"{plan.student} cannot learn from a single image")
    tests: dict[type, Callable[..., float]] = {Labels: _labels, Pictures: _pictures, Everything: _everything}
    return tests[type(what)](course, what, plan)


def _linear(course: Course, what: What) -> float:
    if isinstance(what, Everything):
        return course.teacher  # a linear student of all images is what the teacher is
    if isinstance(what, Weights):
        head = what.head
    elif isinstance(what, Labels):
        head = course.head_of(what.rows)
    else:
        assert isinstance(what, Pictures)
        head = head_of_pictures(course, what)
    return course.accuracy_of(head.logits)


def _labels(course: Course, what: Labels, plan: Students) -> float:
    """`plada train` itself, on the reference of the index."""

    made = train(
        course.payload(what.rows, course.task.classes),
        reference=course.index.info["reference"]["location"],
        student=plan.student,
        weights=plan.weights,
        pretrained=plan.pretrained,
        model_args=plan.model_args,
        image_size=plan.image_size,
        recipe={**course.task.recipe, **plan.recipe},
        target=course.spec,
        seed=course.seed,
        device=plan.device,
        home=course.index.home,
    )
    assert made.accuracy is not None
    return made.accuracy


def _pictures(course: Course, what: Pictures, plan: Students) -> float:
    """The client's loop on the pictures that arrived."""

    assert course.task.test is not None
    recipe = default_recipe(plan.student, trained=bool(plan.weights or plan.pretrained))
    recipe = recipe.changed(course.task.recipe).changed(plan.recipe)
    seed_everything(course.seed)
    network = build_network(
        plan.student,
        classes=course.classes,
        weights=plan.weights,
        pretrained=plan.pretrained,
        model_args=plan.model_args,
        image_size=plan.image_size or recipe.image_size or None,
    )
    view = view_of(network, supersample=recipe.supersample)
    pixels = np.stack([view.of(decode(file)) for file in what.files])
    fit(network, Held(pixels, what.labels), recipe=recipe, seed=course.seed, device=plan.device)
    return evaluate(network, course.task.test, stage="test", device=plan.device)


def _everything(course: Course, what: Everything, plan: Students) -> float:
    """The student as a teacher is trained: on the target's training images, stopped by its validation images."""

    assert course.task.test is not None
    network = finetune(
        plan.student, course.task, weights=plan.weights, model_args=plan.model_args, image_size=plan.image_size,
        recipe=plan.recipe, seed=course.seed, device=plan.device,
    )  # fmt: skip
    return evaluate(network, course.task.test, stage="test", device=plan.device)
