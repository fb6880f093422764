"""Students of the benchmark: trained on what arrived, and tested on the target's test images.

The student `linear` stands on the index's frozen embeddings, whatever was sent. A network trains on images of the reference
(labels) or on the pictures; it cannot be sent as weights in kilobytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from plada.benchmark.image_methods import fit_on_pictures
from plada.benchmark.messages import (
    AllTargetImages,
    Content,
    DoesNotFit,
    KnownAccuracy,
    ProbeWeights,
    ReferenceLabels,
    TargetPictures,
)
from plada.benchmark.scenario import Scenario
from plada.common.progress import Clock, silent
from plada.networks.data import ImagesInMemory
from plada.networks.finetune import finetune
from plada.networks.loop import fit
from plada.networks.network import Network, NetworkSpec, build_network, seed_everything, view_of
from plada.networks.process_group import ProcessGroup
from plada.networks.recipe import Recipe, default_recipe
from plada.sources.decode import decode
from plada.trainer.evaluation import evaluate_split
from plada.trainer.network_student import NetworkStudent, train_network
from plada.trainer.payload_images import ReferenceCopy, open_payload_images
from plada.trainer.run import LINEAR, TrainedStudent, TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPlan:
    """Which student is trained, and how: `network` is `linear` or a network as for `plada.train`."""

    network: NetworkSpec
    recipe: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None


def student_accuracy(scenario: Scenario, content: Content, plan: StudentPlan) -> float | DoesNotFit:
    """Accuracy on the test images of a student of what arrived."""
    if isinstance(content, KnownAccuracy):
        return content.accuracy
    if plan.network.name == LINEAR:
        return _linear_accuracy(scenario, content)
    if isinstance(content, ProbeWeights):
        return DoesNotFit(f"a linear probe is no {plan.network.name}; its own weights are megabytes")
    if len(content) < 2:
        return DoesNotFit(f"{plan.network.name} cannot learn from a single image")
    if isinstance(content, ReferenceLabels):
        student: TrainedStudent = _train_on_labels(scenario, content, plan)
    elif isinstance(content, TargetPictures):
        student = _train_on_pictures(scenario, content, plan)
    else:
        student = _train_on_target(scenario, plan)
    assert scenario.target.test is not None
    return evaluate_split(student.logits, student.view, scenario.target.test, student.classes).accuracy


def _linear_accuracy(scenario: Scenario, content: Content) -> float:
    if isinstance(content, AllTargetImages):
        return scenario.teacher_accuracy  # a linear student of all images is the teacher
    if isinstance(content, ProbeWeights):
        head = content.head
    elif isinstance(content, ReferenceLabels):
        head = scenario.fit_student(content.rows)
    else:
        assert isinstance(content, TargetPictures)
        head = fit_on_pictures(scenario, content)
    return scenario.accuracy_of(head.logits)


def _train_on_labels(scenario: Scenario, content: ReferenceLabels, plan: StudentPlan) -> TrainedStudent:
    """As `plada.train` does it, on the reference of the index."""
    payload, home = scenario.payload(content.rows, scenario.target.classes), scenario.index.home
    copy = ReferenceCopy(location=scenario.index.info["reference"]["location"])
    run = TrainingRun(
        payload=payload, labels=payload, student=plan.network, recipe={**scenario.target.recipe, **plan.recipe},
        seed=scenario.seed, home=home,
    )  # fmt: skip
    images = open_payload_images(payload, copy, home=home)
    return train_network(run, images, ProcessGroup(device=plan.device), Clock(), silent).student


def _train_on_pictures(scenario: Scenario, content: TargetPictures, plan: StudentPlan) -> TrainedStudent:
    """The client's training loop on the pictures that arrived."""
    recipe = default_recipe(plan.network.name, trained=plan.network.trained)
    recipe = recipe.changed(scenario.target.recipe).changed(plan.recipe)
    seed_everything(scenario.seed)
    network = build_network(plan.network, classes=scenario.classes, image_size=recipe.image_size)
    view = view_of(network, supersample=recipe.supersample)
    pixels = np.stack([view.of(decode(file)) for file in content.files])
    fit(network, ImagesInMemory(pixels, content.labels), recipe=recipe, seed=scenario.seed, device=plan.device)
    return _student(scenario, network, recipe, plan)


def _train_on_target(scenario: Scenario, plan: StudentPlan) -> TrainedStudent:
    """The student trained as a teacher: on the target's training images, stopped by its validation images."""
    spec = replace(plan.network, pretrained=False)
    network = finetune(spec, scenario.target, recipe=plan.recipe, seed=scenario.seed, device=plan.device)
    return _student(scenario, network, Recipe(), plan)


def _student(scenario: Scenario, network: Network, recipe: Recipe, plan: StudentPlan) -> TrainedStudent:
    return NetworkStudent(network, scenario.target.classes, recipe, device=plan.device)
