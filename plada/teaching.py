"""Teachers by name. Here because a network is trained by the client's loop, which the labeler may not import."""

from pathlib import Path
from typing import TYPE_CHECKING

from plada.errors import UnknownName
from plada.progress import Report
from plada.sources.targets import Split, Target

if TYPE_CHECKING:
    from plada.labeler.linear import Embedded, TeacherReport
    from plada.labeler.scores import PseudoLabels
    from plada.retrieval.index import Index

FINETUNE = "finetune:"


def teach(
    index: "Index",
    task: Target,
    teacher: str,
    teacher_weights: str | Path | None,
    train: "Embedded",
    validation: "Embedded",
    seed: int,
    device: str | None,
    report: Report,
) -> "tuple[PseudoLabels, TeacherReport]":
    """Train the teacher that was asked for and pseudo-label the reference with it.

    Raises:
        UnknownName: no such teacher. DataError: a class without a readable training image.
    """
    from plada.labeler.linear import TeacherReport, check_every_class, embed_split, linear_teacher
    from plada.labeler.network import label_by_network

    check_every_class(task, train)
    if teacher == "linear":
        tested = embed_split(index.encoder(), task.test, stage="test images", report=report) if task.test else None
        return linear_teacher(index, task, train, validation, tested, report=report)
    if not teacher.startswith(FINETUNE):
        raise UnknownName("teacher", teacher, ["linear", f"{FINETUNE}ARCH"], hint="ARCH is small_cnn or a timm network")
    from plada.networks import build_network, seed_everything
    from plada.trainer.data import labelled_images
    from plada.trainer.loop import fit, predict
    from plada.trainer.recipe import default_recipe
    from plada.trainer.student import evaluate, view_of

    name = teacher.removeprefix(FINETUNE)
    seed_everything(seed)
    followed = default_recipe(name, trained=bool(teacher_weights)).changed(task.recipe)
    network = build_network(
        name,
        classes=len(task.classes),
        weights=Path(teacher_weights) if teacher_weights else None,
        image_size=followed.image_size or None,
    )

    train_view = view_of(network, supersample=followed.supersample)
    train_images = labelled_images(
        task.train.collection.read,
        task.train.positions,
        task.train.labels,
        train_view,
        where=task.train.collection.location,
        stage="train images",
        report=report,
    )
    fit(network, train_images, recipe=followed, seed=seed, device=device, stage="teacher", report=report)

    def judged(split: Split | None, stage: str) -> float | None:
        return evaluate(network, split, stage=stage, device=device, report=report) if split else None

    accuracies = judged(task.test, "test images"), judged(task.validation, "validation images")
    labels = label_by_network(
        lambda pixels: predict(network, pixels, device=device),
        index.reference(),
        view_of(network),
        classes=len(task.classes),
        report=report,
    )
    return labels, TeacherReport(kind=teacher, accuracy=accuracies[0], validation_accuracy=accuracies[1])
