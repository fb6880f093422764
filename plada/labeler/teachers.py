"""Teachers by name. Here because a network is trained by the client's loop, which the labeler may not import."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report
from plada.encoders.encoder import config_from_json
from plada.errors import RequestError, UnknownName
from plada.labeler.custom_teachers import function_teacher, table_teacher, write_table_of_logits
from plada.labeler.embedding_cache import identity_of
from plada.labeler.evaluation import judge_teachers
from plada.labeler.linear_teacher import EmbeddedTarget, TeacherReport, check_every_class, train_linear
from plada.labeler.teacher import PIXELS, Teacher, checked_logits
from plada.labeler.zeroshot import zeroshot_teacher
from plada.networks.finetune import finetune
from plada.networks.loop import predict
from plada.networks.network import NetworkSpec, view_of
from plada.retrieval.index import Index, open_index
from plada.sources.targets.target import Target

F32 = npt.NDArray[np.float32]
LINEAR, ZEROSHOT, FINETUNE, TABLE = "linear", "zeroshot", "finetune:", "table:"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Teachers, calibrated and ready to vote; what is known of them; the penalty of the linear one, if there is one."""

    teachers: tuple[Teacher, ...]
    report: TeacherReport
    penalty: float | None = None

    @property
    def linear(self) -> bool:
        """Whether the linear teacher decides alone, so that folds can each have one of their own."""
        return len(self.teachers) == 1 and self.penalty is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherOptions:
    """How teachers are made. `weights`: where a finetune teacher starts from; `model_args` and `image_size` go with it;
    `force`: a teacher at chance is accepted; `cache`: the folder where what was trained is kept."""

    weights: Path | None = None
    model_args: tuple[tuple[str, object], ...] = ()
    image_size: int | None = None
    force: bool = False
    cache: Path | None = None
    seed: int = 0
    device: str | None = None


def teach(
    index: Index,
    task: Target,
    names: str | Sequence[str],
    views: EmbeddedTarget,
    options: TeacherOptions,
    report: Report,
) -> Ensemble:
    """Make the teachers that `names` (separated by commas, or a sequence) asks for, and find out how good they are.

    Raises:
        UnknownName: no such teacher. RequestError: one that cannot be made here.
        DataError: a class without a readable training image, bad logits, a teacher at chance (unless forced).
        ReferenceMismatch: a table of logits says that it was made for other images or another encoder than the index's.
    """

    listed = [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
    if not listed or len(set(listed)) != len(listed):
        raise RequestError(f"teachers {', '.join(listed) or 'none'}: expected one or more different names")
    made: list[Teacher] = []
    penalty: float | None = None
    held: F32 | None = None
    for name in listed:
        if name == LINEAR:
            check_every_class(task, views.train)
            teacher, penalty, held = train_linear(index, task, views.train, views.validation, options.seed)
            made.append(teacher)
        else:
            made.append(_other(index, task, name, views, options, report))
    found = judge_teachers(made, task, views, held if listed == [LINEAR] else None, force=options.force)
    return Ensemble(found.teachers, found.report, penalty)


def write_logits(
    index: Index | str | Path | None,
    logits: Any,
    *,
    classes: Sequence[str],
    out: str | Path,
    embedded: bool = False,
    home: str | Path | None = None,
) -> Path:
    """Write logits [N, classes] of every image of an index, by position, as a table that `select(teacher="table:FILE")`
    takes (Parquet). It says which images it was made of, and with `embedded` also which encoder: set it where the logits
    were computed from the index's embeddings. `select` refuses it for other images, or another encoder.

    Raises:
        UnknownName: no such index. RequestError: class names that cannot be columns.
        DataError: another number of rows or columns, logits that are not finite.
    """

    opened = index if isinstance(index, Index) else open_index(index, home=home)
    found = checked_logits(f"table:{Path(out).name}", logits, len(opened), len(classes))
    write_table_of_logits(found, tuple(classes), Path(out), claims_of(opened, embedded=embedded))
    return Path(out)


def claims_of(index: Index, *, embedded: bool) -> dict[str, str]:
    """What a table of logits says of where it belongs (plada.labeler.custom_teachers.CLAIMS): the images, and with `embedded` the
    encoder: its name, and a hash of all that decides an embedding."""
    claims = {"plada.key_id": str(index.info["key_id"]), "plada.content_id": str(index.info["content_id"])}
    if embedded:
        from blake3 import blake3

        config = config_from_json(index.info["encoder"])
        claims["plada.encoder"] = f"{config.name} {blake3(identity_of(config).encode()).hexdigest(8)}"
    return claims


def _other(
    index: Index, task: Target, name: str, views: EmbeddedTarget, options: TeacherOptions, report: Report
) -> Teacher:
    if name == ZEROSHOT:
        return zeroshot_teacher(index.encoder(device=options.device), task.classes)
    if name.startswith(FINETUNE):
        check_every_class(task, views.train)
        return _finetuned(task, name, options, report)
    if name.startswith(TABLE):
        place = Path(name.removeprefix(TABLE)).expanduser()
        return table_teacher(
            place, task.classes, len(index), lambda: index.reference().manifest.keys, claims_of(index, embedded=True)
        )
    if ":" in name:
        return function_teacher(name, len(task.classes))
    known = [LINEAR, ZEROSHOT, f"{FINETUNE}ARCH", f"{TABLE}FILE", "MODULE:FUNCTION"]
    raise UnknownName("teacher", name, known, hint="ARCH is small_cnn or a timm network; several vote, comma-separated")


def _finetuned(task: Target, name: str, options: TeacherOptions, report: Report) -> Teacher:
    """A network trained on the target's training images, stopped where its validation images liked it best; kept by all
    that decides its weights."""

    network = finetune(
        NetworkSpec(
            name=name.removeprefix(FINETUNE),
            weights=options.weights,
            model_args=dict(options.model_args),
            image_size=options.image_size,
        ),
        task,
        cache=options.cache,
        seed=options.seed,
        device=options.device,
        report=report,
    )

    return Teacher(
        kind=name,
        classes=len(task.classes),
        needs=PIXELS,
        logits=lambda pixels: predict(network, pixels, device=options.device),
        view=view_of(network),
    )
