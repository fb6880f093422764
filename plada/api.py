"""The commands as Python calls: each reads like the algorithm, one call a step.

The server half (indexer, retrieval, labeler, selection) is imported inside the functions that need it, so that a
client reads, trains and exports with neither FAISS nor LanceDB installed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plada.errors import DataError, RequestError, UnknownName
from plada.extras import require
from plada.files import home_directory, whole_file, write_bytes
from plada.payload.container import Header
from plada.payload.payload import Payload
from plada.progress import Clock, Report, silent
from plada.reading import Around, open_payload
from plada.report.sheets import contact_sheet
from plada.signing import check_serial
from plada.sources.datasets import DatasetSummary, list_datasets
from plada.sources.reference import Reference, check_identity, find_reference, open_reference, plain_name
from plada.sources.registry import open_source, open_target
from plada.sources.targets import Target
from plada.trainer.export import EXPORTS
from plada.trainer.student import TrainingSummary
from plada.units import parse_size

if TYPE_CHECKING:
    from plada.labeler.linear import Embedded, TeacherReport
    from plada.labeler.scores import PseudoLabels
    from plada.retrieval.index import Index
    from plada.selection.selection import Selection

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


def train(
    payload: Payload | str | Path,
    *,
    reference: str | Path | None = None,
    student: str = "resnet18",
    weights: str | Path | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    target: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    same_keys: bool = False,
    pack: str | Path | None = None,
    partial: bool = False,
    update: Sequence[str | Path] = (),
    require_signature: str | Path | None = None,
    min_serial: int = 0,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> TrainingSummary:
    """Train a student on the images and labels of a payload, and test it on `target` if one is named.

    `reference` is the client's own copy (a name or a path); without one, a collection known here that fits. `student`
    is `small_cnn` or any timm network, from nothing unless `weights` (safetensors) or `pretrained` is given. Options
    in `recipe` win over the payload's, which win over the network's defaults. The model goes to `out` if given. `pack`,
    `partial`, `update`, `require_signature` and `min_serial` are as for `read_payload`.

    Raises:
        PayloadError: the payload is bad, or not signed as required. ReferenceMismatch: it labels other images. UnknownName: no such student.
    """
    from plada.networks import build_network, seed_everything
    from plada.trainer.data import labelled_images
    from plada.trainer.loop import fit
    from plada.trainer.recipe import default_recipe
    from plada.trainer.student import Student, check_classes, evaluate, view_of

    clock, root = Clock(), home_directory(home)
    read = _read(
        payload, Around(home=root, reference=reference, pack=pack), partial, update, require_signature, min_serial
    )
    if not len(read):
        raise DataError(f"{payload if not isinstance(payload, Payload) else 'payload'}: holds no label to train on")
    require("torch", extra="client", purpose="training")  # said before a million images are hashed
    followed = (
        default_recipe(student, trained=bool(weights or pretrained)).changed(_recommended(read)).changed(recipe or {})
    )
    with clock("load"):
        task = open_target(target, root) if target is not None else None
        if task is not None:
            check_classes(read.classes, task.classes, task.name)
        images = _reference_of(read, reference, root, same_keys, report)
        seed_everything(seed)
        network = build_network(
            student,
            classes=len(read.classes),
            weights=Path(weights) if weights else None,
            pretrained=pretrained,
            model_args=model_args,
            image_size=image_size or followed.image_size or None,
        )
    with clock("read"):
        view = view_of(network, supersample=followed.supersample)
        labelled = labelled_images(
            images.read, read.positions, read.labels, view, where=images.collection.location, report=report
        )
    with clock("train"):
        fit(network, labelled, recipe=followed, seed=seed, device=device, report=report)
    trained = Student(network, read.classes, followed)
    with clock("test"):
        split = task.test if task is not None else None
        accuracy = evaluate(network, split, stage="test", device=device, report=report) if split is not None else None
    if out is not None:
        trained.save(Path(out))
    return TrainingSummary(
        student=student,
        images=labelled.used(),
        classes=len(read.classes),
        epochs=followed.epochs,
        seed=seed,
        target=task.name if task is not None else None,
        accuracy=accuracy,
        target_note=task.note if task is not None else "",
        model=str(out) if out is not None else None,
        reference=images.collection.location,
        same_content=images.manifest.content_id[:8] == read.content_id[:8],
        segments=read.segments,
        serial=read.serial,
        seconds=clock.seconds,
    )


def export(
    payload: Payload | str | Path,
    *,
    to: str,
    out: str | Path,
    reference: str | Path | None = None,
    same_keys: bool = False,
    pack: str | Path | None = None,
    partial: bool = False,
    update: Sequence[str | Path] = (),
    require_signature: str | Path | None = None,
    min_serial: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> Path:
    """Hand the labelled set to another framework: `to` is csv, parquet (tables of keys and labels) or folder.

    `pack`, `partial`, `update`, `require_signature` and `min_serial` are as for `read_payload`.

    Raises:
        UnknownName: no such form. RequestError: `out` cannot be made. Others as `train` raises.
    """
    if to not in EXPORTS:
        raise UnknownName("export form", to, EXPORTS)
    around = Around(home=home_directory(home), reference=reference, pack=pack)
    read = _read(payload, around, partial, update, require_signature, min_serial)
    images = _reference_of(read, reference, around.home, same_keys, report)
    EXPORTS[to](read, images, Path(out), report)
    return Path(out)


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


def _read(
    payload: Payload | str | Path,
    around: Around,
    partial: bool,
    update: Sequence[str | Path],
    require_signature: str | Path | None,
    min_serial: int,
) -> Payload:
    """The payload, read if it is not yet; one that was read by the caller can be asked no more who signed it."""
    if not isinstance(payload, Payload):
        return open_payload(
            payload, around, partial=partial, update=update, require_signature=require_signature, min_serial=min_serial
        ).payload
    if require_signature is not None or update:
        raise RequestError("a payload that was read already: give its path, or these options to read_payload")
    check_serial(payload.serial, min_serial, "payload")
    return payload


def _recommended(payload: Payload) -> Mapping[str, Any]:
    advice = payload.notes.get("recipe", {})
    return advice if isinstance(advice, dict) else {}


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


def _reference_of(
    payload: Payload, reference: str | Path | None, home: Path, same_keys: bool, report: Report
) -> Reference:
    """The client's copy of the reference, after its identity was compared with the payload's."""
    spec = reference if reference is not None else find_reference(payload.key_id, home)
    if spec is None:
        raise RequestError(
            f"no collection known here has the payload's key id {payload.key_id.hex()}. Say where its "
            f"{payload.reference} images are: --reference NAME or PATH"
        )
    found = open_images(spec, home=home, report=report)
    check_identity(found, images=payload.reference, key=payload.key_id, content=payload.content_id, same_keys=same_keys)
    return found


def _write_table(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd")
