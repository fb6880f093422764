"""Teachers by name: making them, and finding out how good they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from plada.common.cluster import LOCAL
from plada.common.progress import Report, silent
from plada.common.text import split_names
from plada.encoders.encoder import config_from_json
from plada.errors import RequestError, UnknownName
from plada.labeler.custom_teachers import function_teacher, table_teacher, write_table_of_logits
from plada.labeler.embedded_target import EmbeddedTarget, check_every_class
from plada.labeler.embedding_cache import identity_of
from plada.labeler.evaluation import TeacherReport, judge_teachers
from plada.labeler.linear_teacher import train_linear
from plada.labeler.splits import HeldOut
from plada.labeler.teacher import MAJORITY, MEAN, PIXELS, Teacher, checked_logits
from plada.labeler.zeroshot import zeroshot_teacher
from plada.networks.finetune import finetune
from plada.networks.loop import predict
from plada.networks.network import NetworkSpec, view_of
from plada.retrieval.index import Index, open_index
from plada.sources.targets.target import Target

VOTES = (MEAN, MAJORITY)
LINEAR, ZEROSHOT, FINETUNE, TABLE = "linear", "zeroshot", "finetune:", "table:"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """Which teachers label the reference, and how they are made.

    Attributes:
        names: `linear` (a head on the index's embeddings), `finetune:ARCH` (a network trained on the target), `zeroshot` (class
            names through the encoder's text tower), `table:FILE` (logits made elsewhere), `MODULE:FUNCTION` (your own), or
            several of them, which vote: a sequence, or a text with commas between.
        vote: How several vote: `mean`, the mean of their calibrated probabilities, or `majority`, by first choices (equals: by
            the mean). The margin of a majority is larger the more teachers agree.
        weights: Safetensors file from which a finetune teacher starts; None starts from random weights.
        model_args: Arguments of timm's for a finetune teacher's network.
        image_size: Side of the square, in pixels, that a finetune teacher sees; None leaves it to the network.
        exhaustive: Show a teacher that looks at pictures the whole reference, not the candidates alone.
        force: Accept a teacher that is no better than chance.
        engine: Who does the passes over all embeddings of the index: `local`, this process, or `ray`, the Ray cluster that Ray
            finds, whose nodes read the index from the same path or URL. Teachers of your own code and tables are asked here.

    Examples:
        >>> import plada
        >>> teacher = plada.TeacherSpec(names="linear", vote="mean", force=True)
        >>> plada.select("characters", target="few", budget=200, rule="herd", keep="10%", teacher=teacher).report.images > 0
        True
    """

    names: str | Sequence[str] = "linear"
    vote: str = MEAN
    weights: str | Path | None = None
    model_args: Mapping[str, Any] | None = None
    image_size: int | None = None
    exhaustive: bool = False
    force: bool = False
    engine: str = LOCAL


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Teachers, calibrated and ready to vote; what is known of them; the penalty of the linear one, if there is one; how they
    vote."""

    teachers: tuple[Teacher, ...]
    report: TeacherReport
    penalty: float | None = None
    vote: str = MEAN

    @property
    def linear(self) -> bool:
        """Whether the linear teacher decides alone, so that folds can each have one of their own."""
        return len(self.teachers) == 1 and self.penalty is not None


def teach(
    index: Index,
    task: Target,
    embedded: EmbeddedTarget,
    spec: TeacherSpec,
    *,
    cache: Path | None = None,
    seed: int = 0,
    device: str | None = None,
    report: Report = silent,
) -> Ensemble:
    """Make the teachers that `spec` asks for, and find out how good they are. Networks are kept in the folder `cache`.

    Raises:
        UnknownName: no such teacher. RequestError: one that cannot be made here.
        DataError: a class without a readable training image, bad logits, a teacher at chance (unless forced).
        ReferenceMismatch: a table of logits says that it was made for other images or another encoder than the index's.
    """
    listed = split_names(spec.names, _is_table) if isinstance(spec.names, str) else spec.names
    names = [name.strip() for name in listed]
    if spec.vote not in VOTES:
        raise UnknownName("vote", spec.vote, list(VOTES))
    if not names or len(set(names)) != len(names):
        raise RequestError(f"teachers {', '.join(names) or 'none'}: expected one or more different names")
    classes = len(task.classes)
    teachers: list[Teacher] = []
    penalty: float | None = None
    held_out: dict[int, HeldOut] = {}
    for name in names:
        if name == LINEAR:
            check_every_class(task, embedded.train)
            teacher, penalty, held_out[len(teachers)] = train_linear(
                index, classes, embedded, seed, report, device=device
            )
        elif name == ZEROSHOT:
            teacher = zeroshot_teacher(index.encoder(device=device), task.classes)
        elif name.startswith(FINETUNE):
            check_every_class(task, embedded.train)
            teacher = _finetuned(task, name, spec, cache=cache, seed=seed, device=device, report=report)
        elif name.startswith(TABLE):
            path, claims = Path(name.removeprefix(TABLE)).expanduser(), claims_of(index, embedded=True)
            teacher = table_teacher(path, task.classes, len(index), lambda: index.reference().manifest.keys, claims)
        elif ":" in name:
            teacher = function_teacher(name, classes)
        else:
            known = [LINEAR, ZEROSHOT, f"{FINETUNE}ARCH", f"{TABLE}FILE", "MODULE:FUNCTION"]
            hint = "ARCH is small_cnn or a timm network; several vote, comma-separated"
            raise UnknownName("teacher", name, known, hint=hint)
        teachers.append(teacher)
    calibrated, judged = judge_teachers(
        teachers, task, embedded, held_out, force=spec.force, how=spec.vote, report=report
    )
    return Ensemble(calibrated, judged, penalty, spec.vote)


def write_logits(
    index: Index | str | Path | None,
    logits: Any,
    *,
    classes: Sequence[str],
    out: str | Path,
    embedded: bool = False,
    home: str | Path | None = None,
) -> Path:
    """Write logits for an index as a table that `select(teacher="table:FILE")` takes.

    The table (Parquet) says which images it was made of. `select` refuses it for other images, or another encoder.

    Args:
        index: An opened index, its name, or None for the only one there is.
        logits: Float32 [N, classes], one row for each image of the index, by position.
        classes: Names of the columns, in order.
        out: The file.
        embedded: Whether the logits were computed from the index's embeddings; the table then names the encoder, too.
        home: Where indexes are kept; None for the usual place.

    Returns:
        The file.

    Raises:
        UnknownName: There is no such index.
        RequestError: Class names that cannot be columns.
        DataError: Another number of rows or columns, or logits that are not finite.

    Examples:
        >>> import plada
        >>> index = plada.open_index("glyphs")
        >>> logits = np.zeros((len(index), 2), np.float32)
        >>> plada.write_logits(index, logits, classes=["cat", "dog"], out="logits.parquet").name
        'logits.parquet'
    """
    opened = index if isinstance(index, Index) else open_index(index, home=home)
    checked = checked_logits(f"table:{Path(out).name}", logits, len(opened), len(classes))
    write_table_of_logits(checked, tuple(classes), Path(out), claims_of(opened, embedded=embedded))
    return Path(out)


def _is_table(name: str) -> bool:
    return name.startswith(TABLE) and Path(name.removeprefix(TABLE)).expanduser().exists()


def claims_of(index: Index, *, embedded: bool) -> dict[str, str]:
    """What a table of logits says of its origin (plada.labeler.custom_teachers.CLAIMS): the images, and with `embedded` the
    encoder: its name, and a hash of all that decides an embedding."""
    claims = {"plada.key_id": str(index.info["key_id"]), "plada.content_id": str(index.info["content_id"])}
    if embedded:
        config = config_from_json(index.info["encoder"])
        claims["plada.encoder"] = f"{config.name} {blake3(identity_of(config).encode()).hexdigest(8)}"
    return claims


def _finetuned(
    task: Target, name: str, spec: TeacherSpec, *, cache: Path | None, seed: int, device: str | None, report: Report
) -> Teacher:
    """A network trained on the target's training images until its validation loss stops falling; kept by all that decides
    its weights."""
    network = finetune(
        NetworkSpec(
            name=name.removeprefix(FINETUNE),
            weights=spec.weights,
            model_args=dict(spec.model_args or {}),
            image_size=spec.image_size,
        ),
        task,
        cache=cache,
        seed=seed,
        device=device,
        report=report,
    )
    return Teacher(
        kind=name,
        classes=len(task.classes),
        needs=PIXELS,
        logits=lambda pixels: predict(network, pixels, device=device),
        view=view_of(network),
    )
