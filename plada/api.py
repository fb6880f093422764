"""The commands as Python calls: each reads like the algorithm, one call a step.

The server half (indexer, retrieval, labeler, selection) is imported inside the functions that need it, so that a
client reads, trains and exports with neither FAISS nor LanceDB installed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plada.errors import UnknownName
from plada.files import home_directory, whole_file, write_bytes
from plada.payload.container import Header
from plada.payload.payload import Payload
from plada.progress import Clock, Report, silent
from plada.report.sheets import contact_sheet
from plada.sources.datasets import DatasetSummary, list_datasets
from plada.sources.reference import Reference, open_reference, plain_name
from plada.sources.registry import open_source, open_target
from plada.sources.targets import Target
from plada.training import export, train
from plada.units import parse_size

if TYPE_CHECKING:
    from plada.labeler.linear import Embedded, TeacherReport
    from plada.labeler.scores import PseudoLabels
    from plada.retrieval.index import Index
    from plada.selection.selection import Selection

__all__ = ["datasets", "export", "open_images", "select", "train", "write_sheet"]

SHEET_COLUMNS = 16
_NOTED = 10_000  # bytes of budget from which target and teacher accuracy ride along
_JUDGED = 20_000  # images of a selection that the linear student of the report is trained on, at most


def select(
    index: "Index | str | Path | None" = None,
    *,
    target: str | Path,
    budget: str | int = "1MB",
    rule: str = "nearest-sure",
    teacher: str = "linear",
    teacher_weights: str | Path | None = None,
    weights: str | Path | None = None,
    recipe: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    sheet: str | Path | None = None,
    table: str | Path | None = None,
    drop_leaks: bool = False,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    progressive: str | None = None,
    segments: int | None = None,
    sign: str | Path | None = None,
    serial: int = 0,
    seed: int = 0,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> "Selection":
    """Choose and label reference images for a target, as many as fit into the budget.

    `index` is an opened index, its name, or None for the only one there is. `teacher` is `linear` (on the index's
    embeddings) or `finetune:ARCH` (trained on the target; `teacher_weights` to start from). `recipe` are training
    options to recommend to clients. The file goes to `out` if given, a contact sheet to `sheet`, the rows to `table`.
    Chosen images that are near copies of test images are named in the report; `drop_leaks` takes others instead.

    `client_has` (nothing, manifest, pack), `pack`, `progressive` (blocks, layers), `segments` and `sign` say how the file is
    written (plada.sending); `serial` is its serial number, to grow with every payload of one sender.

    Raises:
        UnknownName: no such index, target, rule, teacher. BudgetTooSmall: not one label a class.
        DataError: a class without images, nothing readable. ReferenceMismatch: the encoder or images have changed.
    """
    from plada.labeler.linear import embed_split
    from plada.leaking import SelectionCheck, without
    from plada.selection.budget import Trial, fill_budget
    from plada.selection.rules import RULES, Chosen, Context
    from plada.selection.selection import Selection, SelectionReport, Tried, make_table
    from plada.sending import sender_for
    from plada.sources.leaks import Leak
    from plada.teaching import teach

    if rule not in RULES:
        raise UnknownName("rule", rule, RULES)
    limit, clock, root = parse_size(budget), Clock(), home_directory(home)
    with clock("load"):
        opened = _opened(index, home)
        task = open_target(target, root)
        sender = sender_for(
            _header_of(opened),
            client_has=client_has,
            pack=pack,
            progressive=progressive,
            segments=segments,
            sign=sign,
            home=root,
        )
        encoder = opened.encoder(weights, device)
    with clock("teacher"):
        train, validation = (
            embed_split(encoder, split, stage=stage, report=report)
            for stage, split in (("train images", task.train), ("validation images", task.validation))
        )
        labels, taught = teach(opened, task, teacher, teacher_weights, train, validation, seed, device, report)
    notes = _notes(task, taught, recipe, limit)
    with clock("choose"):
        context = Context(
            lambda positions: opened.vectors(positions).astype(np.float32), train.vectors, train.labels, seed
        )

        def chosen_from(labels: "PseudoLabels") -> Trial[tuple[Chosen, Payload]]:
            choose = RULES[rule].prepare(labels, context)

            def make(k: int) -> tuple[tuple[Chosen, Payload], int]:
                chosen = choose(k)
                payload = _payload_of(opened, task, labels, chosen.rows, notes, serial)
                return (chosen, payload), sender.size(payload)

            classes = int((labels.counts() > 0).sum())
            return fill_budget(make, budget=limit, least=classes, most=len(labels), classes=classes)

        found = chosen_from(labels)
    with clock("leaks"):
        leaks_in = SelectionCheck(task.test, opened.reference, must=drop_leaks, report=report)
        leaks = leaks_in(found.made[1].positions)
        dropped: tuple[Leak, ...] = ()
        while leaks and drop_leaks:
            dropped = (*dropped, *leaks)
            labels = without(labels, [leak.position for leak in leaks])
            found = chosen_from(labels)
            leaks = leaks_in(found.made[1].positions)
    (chosen, payload), counts = found.made, labels.counts()
    with clock("judge"):
        judged = _judge(opened, payload, validation, seed)
    with clock("write"):
        rows = make_table(labels, chosen, opened.keys(labels.positions[chosen.rows]))
        if out is not None:
            write_bytes(Path(out), sender.encode(payload))
        if table is not None:
            _write_table(rows, Path(table))
        if sheet is not None:
            write_sheet(
                rows, task.classes, opened.reference(), Path(sheet), title=f"{task.name} from {opened.name}: {rule}"
            )
    summary = SelectionReport(
        payload=str(out) if out is not None else None,
        bytes=found.bytes,
        budget=limit,
        images=len(payload),
        classes=len(task.classes),
        class_counts=dict(zip(task.classes, payload.class_counts(), strict=True)),
        empty_classes=tuple(name for name, count in zip(task.classes, counts, strict=True) if not count),
        keep_rate=len(payload) / len(opened),
        rule=rule,
        coder=sender.coder(payload),
        client_has=client_has,
        progressive=progressive,
        signed_by=sender.signer.fingerprint.hex() if sender.signer is not None else None,
        serial=serial,
        teacher=taught,
        tried=(Tried(rule=rule, keep=found.k, bytes=found.bytes, validation_accuracy=judged),),
        left_out=train.left_out + validation.left_out,
        target_note=task.note,
        leaks=leaks,
        leaks_dropped=dropped,
        leaks_note=leaks_in.note,
        seconds=clock.seconds,
    )
    return Selection(rows, payload, summary)


def datasets(name: str | None = None, *, check: bool = False, home: str | Path | None = None) -> list[DatasetSummary]:
    """Every registered collection (or the one called `name`), and how it is on this machine.

    `check` opens each one that is here and counts its images and classes; without it only stored counts are compared.

    Raises:
        UnknownName: no such name.
    """
    return list_datasets(home_directory(home), name=name, check=check)


def write_sheet(table: Any, classes: tuple[str, ...], images: Reference, path: Path, *, title: str = "") -> Path:
    """A contact sheet of a selection's table: the best images of each class, best first."""
    best = table.filter(np.asarray(table["class_rank"]) < SHEET_COLUMNS).sort_by("class_rank")
    labels, positions = np.asarray(best["label"]), np.asarray(best["position"])
    totals = np.bincount(np.asarray(table["label"]), minlength=len(classes))
    rows = [
        (f"{name} ({totals[label]})", [images.image(int(p)) for p in positions[labels == label]])
        for label, name in enumerate(classes)
    ]
    return contact_sheet(rows, path, title=title)


def open_images(reference: str | Path, *, home: str | Path | None = None, report: Report = silent) -> Reference:
    """A reference on this machine: its keys, its manifest, and its images by position, hashes compared."""
    root = home_directory(home)
    collection = open_source(reference, root)
    return open_reference(plain_name(collection.location), collection, root, report=report)


def _opened(index: "Index | str | Path | None", home: str | Path | None) -> "Index":
    from plada.retrieval.index import Index, open_index

    return index if isinstance(index, Index) else open_index(index, home=home)


def _header_of(index: "Index") -> Header:
    """What the payloads of an index have in common."""
    return Header(len(index), 1, bytes.fromhex(index.info["key_id"])[:8], bytes.fromhex(index.info["content_id"])[:8])


def _payload_of(
    index: "Index", task: Target, labels: "PseudoLabels", rows: Any, notes: Mapping[str, Any], serial: int
) -> Payload:
    """The payload of the images at `rows`, best first."""
    from plada.selection.selection import shares_of_class

    order, header = np.argsort(rows), _header_of(index)
    return Payload(
        positions=labels.positions[rows[order]],
        labels=labels.labels[rows[order]],
        classes=task.classes,
        reference=header.reference,
        key_id=header.key_id,
        content_id=header.content_id,
        notes=notes,
        serial=serial,
        rank=np.argsort(np.argsort(shares_of_class(labels.labels[rows]), kind="stable"))[order],
    )


def _notes(task: Target, taught: "TeacherReport", recipe: Mapping[str, Any] | None, budget: int) -> dict[str, Any]:
    """What rides along: the recipe always (a few bytes, and the student needs it), the rest where it costs nothing."""
    from plada.trainer.recipe import Recipe

    advice = {**task.recipe, **(recipe or {})}
    Recipe().changed(advice)  # refuse nonsense here, not on every client
    notes: dict[str, Any] = {"recipe": advice} if advice else {}
    if budget >= _NOTED:
        notes["target"] = task.name
        if taught.accuracy is not None:
            notes["teacher_accuracy"] = round(taught.accuracy, 4)
    return notes


def _judge(index: "Index", payload: Payload, validation: "Embedded", seed: int) -> float | None:
    """What a linear student of this selection reaches on the target's validation images."""
    from plada.labeler.teachers import STUDENT_PENALTY, accuracy, fit_head

    if not len(validation.labels):
        return None
    rows = np.arange(len(payload))
    if len(rows) > _JUDGED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _JUDGED, replace=False))
    vectors = index.vectors(payload.positions[rows]).astype(np.float32)
    head = fit_head(
        vectors, payload.labels[rows], classes=len(payload.classes), mean=index.mean, penalty=STUDENT_PENALTY
    )
    return accuracy(head.logits(validation.vectors), validation.labels)


def _write_table(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd")
