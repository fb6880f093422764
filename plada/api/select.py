"""`plada select` as a Python call: it reads like the method, one call a step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from plada.api.payload import Payload, as_payload, sender_for
from plada.benchmark.alternatives import forecast_alternatives
from plada.benchmark.scenario import Labelled, Scenario
from plada.common.cluster import check_engine
from plada.common.files import home_directory, write_bytes
from plada.common.outputs import check_outputs
from plada.common.products import BLAS, one_thread
from plada.common.progress import Clock, Report, Tracker, silent, with_heartbeat
from plada.common.units import check_seed, parse_size
from plada.errors import ReferenceMismatch, UnknownName
from plada.labeler.embedded_target import embed_target
from plada.labeler.label import joint_probabilities, label
from plada.labeler.teachers import TeacherSpec, teach
from plada.payload.sender import Delivery
from plada.reports.command_line import changed_options
from plada.reports.plots import class_histogram
from plada.reports.selection_sheets import write_percentiles, write_sheet
from plada.retrieval.index import Index, open_index
from plada.selection.auto import scores_of
from plada.selection.budget import images_at
from plada.selection.choose import RuleSpec, SelectionSpec, choose_images, row_chooser
from plada.selection.compose import Composer, header_of, notes_of
from plada.selection.corrections import Corrections, correct
from plada.selection.duplicates import without_near_duplicates
from plada.selection.leaks import SelectionCheck, avoid_leaks
from plada.selection.named_target import named_target
from plada.selection.prepare import JudgeSpec
from plada.selection.report import SelectionReport, summarise
from plada.selection.rules.registry import AUTO, RULES
from plada.selection.soft import HARD, LABELS, SoftNotes
from plada.selection.student_calibration import calibrate, reserve_calibration
from plada.selection.table import make_table, write_table
from plada.sources.registry import open_target

BUDGET = "1MB"
EMBEDDINGS, TEACHERS = "embeddings", "teachers"  # folders of the home's cache


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Selection:
    """What `select` chose.

    Attributes:
        table: The chosen images as a pyarrow table, by position: position uint32, key string, label int32, score float32,
            class_rank int32. Rank 0 is the best image of its class.
        payload: What is sent.
        report: What `select` says of its work.
        index: The index that was chosen from.
        title: Target, index and rule, as pictures have it above.
        options: What `select` was asked for beyond its defaults, as plain values by the names of the command's options.

    Examples:
        >>> import plada
        >>> selection = plada.select("characters", target="few", budget=200, rule="herd", keep="10%")
        >>> selection.table.num_rows == len(selection.payload)
        True
        >>> selection.contact_sheet("sheet.png").name, selection.percentiles("percentiles.png").name
        ('sheet.png', 'percentiles.png')
        >>> selection.histogram("classes.png").name, selection.write_table("chosen.parquet").name
        ('classes.png', 'chosen.parquet')
    """

    table: Any
    payload: Payload
    report: SelectionReport
    index: Index
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = f"{self.report.images} images, {self.report.bytes} of {self.report.budget} bytes"
        return f"<Selection {self.title}: {size}, saved as {self.report.payload}>"

    def contact_sheet(self, path: str | Path) -> Path:
        """Write a picture of the first images of each class, in the order in which the rule chose them.

        Args:
            path: The file, PNG.

        Returns:
            The file.

        Raises:
            ReferenceMismatch: The images are not those that were indexed.
        """
        return write_sheet(self.table, self.payload.classes, self.index.reference(), Path(path), title=self.title)

    def percentiles(self, path: str | Path) -> Path:
        """Write a picture of images by score percentile, from the first to the last, as the paper's figure 3.

        Args:
            path: The file, PNG.

        Returns:
            The file.

        Raises:
            ReferenceMismatch: The images are not those that were indexed.
        """
        return write_percentiles(self.table, self.payload.classes, self.index.reference(), Path(path), title=self.title)

    def histogram(self, path: str | Path) -> Path:
        """Write a plot of how often each class is in the reference, by the teacher, and in the selection.

        Args:
            path: The file, PNG.

        Returns:
            The file.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        before = list(self.report.reference_counts.values())
        return class_histogram(before, self.payload.class_counts(), self.payload.classes, Path(path), self.title)

    def write_table(self, path: str | Path) -> Path:
        """Write the table with what `select` said and was asked for, for `plada.report`.

        Args:
            path: The file, Parquet.

        Returns:
            The file.
        """
        options = {**self.options, "table": str(path)}
        write_table(self.table, Path(path), {"report": self.report.untimed(), "asked": options})
        return Path(path)


@with_heartbeat
@one_thread(BLAS)
def select(
    index: Index | str | Path | None = None,
    *,
    target: str | Path,
    budget: str | int = BUDGET,
    keep: str | float | None = None,
    rule: str | RuleSpec = AUTO,
    labels: str = HARD,
    teacher: str | Sequence[str] | TeacherSpec = "linear",
    weights: str | Path | None = None,
    delivery: Delivery | None = None,
    recipe: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    corrections: Corrections | None = None,
    seed: int = 0,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> Selection:
    """Choose and label reference images for a target, as many as fit into the budget.

    A teacher labels the reference, a rule chooses images by these labels, and a coder writes them. Chosen images that are near
    copies of the target's test images are named in the report.

    Args:
        index: An opened index, its name, folder or URL; None for the only one there is.
        target: A registered name, a folder, or `classes:cat,dog` (or `classes:FILE`), which has no images, for teachers that
            need none.
        budget: Bytes of the whole file: 65536, "200kB", "1MB".
        keep: Share of the reference to keep instead, "1%" or 0.01; floor(share x images) are kept. The budget still holds.
        rule: A name as in `RuleSpec.name`, or a RuleSpec.
        labels: `hard`, or the paper's variants: `soft`, the mean probabilities of each class's chosen images (eq. 12), or
            `dirichlet`, a distribution of them (eq. 13). They are sent beside the hard labels.
        teacher: Names as in `TeacherSpec.names`, or a TeacherSpec.
        weights: Where the weights of the index's encoder lie now, if they have moved.
        delivery: What clients hold beside the images, and how the file is written; None for the manifest alone.
        recipe: Training options to recommend to clients, by name.
        out: The file to write; None writes none.
        corrections: Images to leave out or to relabel.
        seed: Decides every random choice.
        device: torch's name of a device; None takes a GPU if there is one.
        home: Where indexes, manifests and packs are kept; None for the usual place.
        report: Called with each step of progress.

    Returns:
        The selection: its table, its payload, a report, and methods that write pictures and the table.

    Raises:
        UnknownName: There is no such index, target, rule, teacher or engine.
        BudgetTooSmall: Not one label a class fits.
        DataError: A class without images, nothing readable, a teacher at chance, bad logits or corrections.
        RequestError: An impossible keep rate, or options that do not go together.
        ReferenceMismatch: The encoder or the images have changed.

    Examples:
        >>> import plada
        >>> selection = plada.select("glyphs", target="digits", budget=400, rule="balanced")
        >>> selection.report.bytes <= 400
        True
        >>> size = selection.payload.save("mine.plada")
    """
    rules = rule if isinstance(rule, RuleSpec) else RuleSpec(name=rule)
    if rules.name != AUTO and rules.name not in RULES:
        raise UnknownName("rule", rules.name, [AUTO, *RULES])
    if labels not in LABELS:
        raise UnknownName("kind of labels", labels, list(LABELS))
    teachers = teacher if isinstance(teacher, TeacherSpec) else TeacherSpec(names=teacher)
    check_engine(teachers.engine)
    delivery, corrections = delivery or Delivery(), corrections or Corrections()
    check_outputs(out)
    check_seed(seed)
    limit, clock, root = parse_size(budget), Clock(), home_directory(home)

    with clock("load"):
        opened = index if isinstance(index, Index) else open_index(index, home=home, report=report)
        opened.keep_manifest()
        task = named_target(target) or open_target(target, root)
        encoder = opened.encoder(weights, device) if weights else opened.lazy_encoder(device)
        sender = sender_for(header_of(opened), delivery, home=root)
        slow = delivery.client_has == "pack" and delivery.progressive is None
        approximate = sender_for(header_of(opened), home=root) if slow else None
        judge = _open_judge(rules.judge, opened, home, report)
        spec = SelectionSpec(rule=rules.name, budget=limit, keep=images_at(keep, opened.readable), seed=seed)
    with clock("embed"):
        embedded = embed_target(encoder, task, cache=root / "cache" / EMBEDDINGS, report=report)
        judged = JudgeSpec(own_teachers=True)
        if judge is not None:
            seen = embed_target(judge.lazy_encoder(device), task, cache=root / "cache" / EMBEDDINGS, report=report)
            judged = replace(judged, other=judge, other_target=seen)
    with clock("teacher"):
        ensemble = teach(
            opened, task, embedded, teachers, cache=root / "cache" / TEACHERS, seed=seed, device=device, report=report
        )
    with clock("label"):
        notes = notes_of(task, ensemble.report, recipe, limit)
        composer = Composer(
            index=opened, target=task, sender=sender, approximate_sender=approximate, notes=notes,
            serial=delivery.serial,
        )  # fmt: skip
        if delivery.calibration:
            composer = reserve_calibration(composer, embedded)
        labelled = label(
            opened, ensemble, embedded, exhaustive=teachers.exhaustive, budget=limit, seed=seed,
            choose_rows=row_chooser(composer, embedded, spec), report=report, scores=scores_of(rules.name),
            device=device,
            engine=teachers.engine,
        )  # fmt: skip
        corrected = correct(labelled.labels, opened, task.classes, corrections)
        candidates = corrected.labels
        if corrections.distinct is not None:
            candidates = without_near_duplicates(candidates, labelled.vectors, corrections.distinct, report)
    with clock("choose"):
        probabilities = partial(joint_probabilities, opened, ensemble, vectors=labelled.vectors, report=report)
        composer = replace(composer, soft=SoftNotes(labels, probabilities))
        choose = partial(
            choose_images, composer=composer, labelled=labelled, embedded=embedded,
            judge=replace(judged, own_teachers=ensemble.linear, corrected=corrected), spec=spec,
            report=report,
        )  # fmt: skip
        draft = choose(candidates)
    with clock("leaks"):
        check = SelectionCheck(task.test, opened.reference, must=corrections.drop_leaks, report=report)
        draft, leaks = avoid_leaks(draft, choose, check, drop=corrections.drop_leaks)
    if delivery.calibration:
        with clock("calibrate"):
            draft = calibrate(draft, composer, labelled.vectors, embedded, limit, seed, report)
    alternatives: dict[str, float] = {}
    if rules.compare and len(embedded.known.labels):
        with clock("compare"):
            Tracker("compare", None, report).say("a quantised head and shrunk pictures in the same bytes")
            parts = Labelled(
                target=task, embedded=embedded, ensemble=ensemble, labels=draft.labels, vectors=labelled.vectors
            )
            alternatives = forecast_alternatives(Scenario(opened, parts, seed), limit)
    with clock("write"):
        chosen = draft.chosen
        table = make_table(draft.labels, chosen, opened.keys(draft.labels.positions[chosen.rows]))
        if out is not None:
            write_bytes(Path(out), sender.encode(draft.payload))
    summary = summarise(
        draft, leaks, composer, labelled, embedded, ensemble.report, payload=str(out) if out is not None else None,
        budget=limit, labels=labels, delivery=delivery, copies=len(corrected.labels) - len(candidates), keep=spec.keep,
        relabel_note=corrected.remark, alternatives=alternatives, seconds=clock.seconds,
    )  # fmt: skip

    options = changed_options(
        {
            "index": opened.name if isinstance(index, Index) else index, "target": target, "budget": budget, "keep": keep,
            **_rule_options(rules), "labels": labels, **_teacher_options(teachers), "weights": weights, **_options(delivery),
            "recipe": recipe, "out": out, **_options(corrections), "seed": seed, "device": device, "home": home,
        },
        {
            "budget": BUDGET, **_rule_options(RuleSpec()), "labels": HARD, **_teacher_options(TeacherSpec()), **_options(Delivery()),
            **_options(Corrections()), "seed": 0,
        },
    )  # fmt: skip
    title = f"{task.name} from {opened.name}: {summary.rule}"
    return Selection(table, as_payload(draft.payload), summary, opened, title, options)


def _open_judge(
    judge: Index | str | Path | None, index: Index, home: str | Path | None, report: Report
) -> Index | None:
    """The index that rules are judged on beside `index`.

    Raises:
        UnknownName: there is none of this name. ReferenceMismatch: it is of other images.
    """
    if judge is None:
        return None
    opened = judge if isinstance(judge, Index) else open_index(judge, home=home, report=report)
    for what in ("key_id", "content_id"):
        if opened.info[what] != index.info[what]:
            raise ReferenceMismatch(
                f"judge {opened.name}: is an index of other images than {index.name} (their {what} is "
                f"{opened.info[what]}, not {index.info[what]}). Judge on an index of the same reference"
            )
    return opened


def _rule_options(spec: RuleSpec) -> dict[str, Any]:
    """The fields of a RuleSpec by the names of the command's options."""
    judge = spec.judge.name if isinstance(spec.judge, Index) else spec.judge
    return {"rule": spec.name, "judge": judge, "compare": spec.compare}


def _options(group: Delivery | Corrections) -> dict[str, Any]:
    """The fields of a group, which are called as the command's options are."""
    return {each.name: getattr(group, each.name) for each in fields(group)}


def _teacher_options(spec: TeacherSpec) -> dict[str, Any]:
    """The fields of a TeacherSpec by the names of the command's options."""
    return {
        "teacher": spec.names,
        "vote": spec.vote,
        "teacher_weights": spec.weights,
        "model_args": spec.model_args,
        "image_size": spec.image_size,
        "exhaustive": spec.exhaustive,
        "force": spec.force,
        "engine": spec.engine,
    }
