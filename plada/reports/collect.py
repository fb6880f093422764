"""What a report says of a payload, collected from its file, its selection's table, its images and a trained model."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from plada.common.arrays import F64
from plada.common.progress import Report, Tracker, silent
from plada.errors import DataError, ReferenceMismatch, RequestError, SideMissing, Unreadable
from plada.payload.inspect import RATES, PayloadSummary, summarise
from plada.payload.payload import Payload
from plada.reports.findings import (
    BINS,
    Accuracy,
    ClassFacts,
    Confusion,
    Findings,
    Histogram,
    Picture,
    even_ranks,
    fair_shares,
    few_images,
    score_spread,
)
from plada.reports.remarks import commands, earlier_corrections, identity, remarks, thin_classes, unknown
from plada.reports.thumbnails import matrix_picture, thumbnail
from plada.selection.table import SelectionTable, read_table
from plada.sources.decode import decode
from plada.sources.synset_names import find_synset_names, name_key
from plada.trainer.evaluation_images import check_classes
from plada.trainer.model import ModelEvaluation, evaluate_model
from plada.trainer.payload_context import PayloadContext, find_shared_context
from plada.trainer.payload_file import ReadOptions, open_payload
from plada.trainer.payload_images import PayloadImages, ReferenceCopy, open_payload_images
from plada.trainer.payload_summary import summarise_file

MODEL = "the model"
TEACHER = "the teacher"
FORECAST = "students, forecast"
PICTURES = 1500  # in all; a photograph takes 1.7 kB of the page
_TABLE = 30  # classes up to which a confusion matrix is a table of numbers
_DRAWN = 1000  # classes up to which it is a picture
_WORKERS = 4  # threads that decode
_AT_ONCE = 128  # pictures, after which the manifest's rows are let go
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTest:
    """A model that was trained on the payload, to be tested.

    Attributes:
        model: The model, a folder or file as `plada.train` writes it.
        target: The target on whose test images it is tested; None for that of the selection.
        weights: Where the encoder of a linear model lies now, if it has moved.
        device: torch's name of a device; None for a GPU if there is one.

    Examples:
        >>> import plada
        >>> test = plada.ModelTest(model="model.safetensors", target="few")
        >>> plada.report("digits.plada", model=test, out="tested.html", pictures=20).accuracy >= 0
        True
    """

    model: str | Path
    target: str | Path | None = None
    weights: str | Path | None = None
    device: str | None = None


def collect(
    file: str | Path,
    context: PayloadContext,
    *,
    selection: str | Path | None = None,
    model: ModelTest | None = None,
    same_keys: bool = False,
    budget: int | None = None,
    rates: tuple[int, ...] = RATES,
    pictures: int = PICTURES,
    options: Mapping[str, Any] = _NONE,
    require_signature: str | Path | None = None,
    names: str | Path | None = None,
    report: Report = silent,
) -> Findings:
    """All that can be said of a payload file. What cannot is named in `unknown`. Raises as plada.report does.

    `names` is a file of synset names (plada/sources/synset_names.py). `options` are those of the command `plada report` that makes the same report.
    """
    payload, summary = _read(file, context, rates, require_signature)
    table = read_table(selection, payload) if selection is not None else None
    said = table.report if table is not None else _NONE
    asked = table.options if table is not None else _NONE
    target = (model.target if model is not None else None) or asked.get("target")
    evaluation = _evaluate(model, target, summary, context.home, report) if model is not None else None
    images, no_pictures = _open_images(payload, context, pictures, same_keys, report)
    classes = _class_facts(summary, payload, table)
    if payload is not None and images is not None:
        synsets = find_synset_names(images.location, names)
        classes = _with_pictures(classes, payload, table, images, pictures, synsets, report)
    corrections = earlier_corrections(asked, summary.names)
    forecast = said.get("forecast") or {}
    noted = summary.notes.get("target")
    bits = [(name, each) for name, each in (("positions", summary.positions), ("labels", summary.labels)) if each]
    model_file = model.model if model is not None else None
    return Findings(
        title=Path(str(file)).name,
        target=noted if isinstance(noted, str) else str(target) if target is not None else None,
        rule=said.get("rule"),
        version=summary.version,
        bytes=summary.bytes,
        budget=budget if budget is not None else said.get("budget"),
        images=summary.images,
        reference=summary.reference,
        classes=classes,
        ranked=table is not None,
        accuracies=_accuracies(summary, said, evaluation),
        points=tuple((int(size), float(value)) for size, value in forecast.get("points", ())),
        confusion=_confusion(evaluation) if evaluation is not None else None,
        histogram=_histogram(table.scores) if table is not None else None,
        sections=summary.sections,
        coder=summary.coder,
        coders=summary.coders or {},
        paper=summary.paper or {},
        bits=tuple((name, each.bits, each.entropy) for name, each in bits),
        air=summary.air,
        identity=identity(file, context.home, summary, payload, images, said, model_file),
        commands=commands(file, options, context.reference, asked),
        remarks=(*remarks(summary, said, payload, images, model_file), *thin_classes(classes), *corrections.problems),
        unknown=unknown(summary, table, no_pictures, budget=budget is not None, model=model is not None),
        excluded=corrections.excluded,
        relabelled=corrections.relabelled,
    )


def _read(
    file: str | Path, context: PayloadContext, rates: tuple[int, ...], key: str | Path | None
) -> tuple[Payload | None, PayloadSummary]:
    """The payload, None where its labels need what is not here, and what can be said of its file."""
    try:
        opened = open_payload(file, context, ReadOptions(require_signature=key))
    except SideMissing:
        return None, summarise_file(file, context, rates=rates, require_signature=key)
    shared = find_shared_context(opened.header, context, "pack" if opened.header.pack_id else "manifest")
    return opened.payload, summarise(opened, shared, rates=rates)


def _evaluate(
    model: ModelTest, target: str | Path | None, summary: PayloadSummary, home: Path, report: Report
) -> ModelEvaluation:
    if target is None:
        raise RequestError("--model is tested on a target's test images: name the --target, too")
    evaluation = evaluate_model(
        model.model, target, weights=model.weights, device=model.device, home=home, report=report
    )
    check_classes(summary.names, tuple(each.name for each in evaluation.evaluation.classes), str(model.model))
    return evaluation


def _open_images(
    payload: Payload | None, context: PayloadContext, pictures: int, same_keys: bool, report: Report
) -> tuple[PayloadImages | None, str]:
    """The payload's images, or None and why: a reference that is named must fit, one that is looked for may be missing."""
    if payload is None or not pictures:
        return None, "" if pictures else "none were asked for"
    named = context.reference
    try:
        images = open_payload_images(
            payload,
            ReferenceCopy(location=named, same_keys=same_keys, skip_changed=True),
            home=context.home,
            report=report,
        )
    except (RequestError, ReferenceMismatch, DataError) as err:
        if named is not None:
            raise
        return None, str(err)
    return images, ""


def _class_facts(
    summary: PayloadSummary, payload: Payload | None, table: SelectionTable | None
) -> tuple[ClassFacts, ...]:
    before = (table.report if table is not None else _NONE).get("reference_counts") or {}
    after = payload.class_counts() if payload is not None else [None] * len(summary.names)
    scores: list[Any] = [None] * len(summary.names)
    if payload is not None and table is not None:
        order = np.argsort(payload.labels, kind="stable")
        by_class = np.split(table.scores[order], np.cumsum(payload.class_counts())[:-1])
        scores = [score_spread(each.tolist()) for each in by_class]
    few = few_images([count for count in after if count is not None])
    return tuple(
        ClassFacts(
            name=name, before=before.get(name), after=count, scores=spread, few=count is not None and count < few
        )
        for name, count, spread in zip(summary.names, after, scores, strict=True)
    )


def _with_pictures(
    classes: tuple[ClassFacts, ...],
    payload: Payload,
    table: SelectionTable | None,
    images: PayloadImages,
    limit: int,
    synsets: Mapping[str, str],
    report: Report,
) -> tuple[ClassFacts, ...]:
    """The classes with their pictures: the same number of each as far as it has them, evenly from its first to its last."""
    counts = payload.class_counts()
    # Within a class by rank where there is one, else as positions rise.
    order = np.lexsort((table.ranks if table is not None else payload.positions, payload.labels))
    starts = np.append(0, np.cumsum(counts))
    shown = [
        (int(order[starts[label] + rank]), rank)
        for label, places in enumerate(fair_shares(counts, limit))
        for rank in even_ranks(counts[label], places)
    ]
    keys = images.manifest.keys_at(payload.positions[[row for row, _ in shown]]) if shown else []
    tracker = Tracker("pictures", len(shown), report)

    def draw(at: int) -> Picture:
        row, rank = shown[at]
        score = float(table.scores[row]) if table is not None else None
        picture = _picture(images, int(payload.positions[row]), keys[at], rank, score)
        return replace(picture, name=name_key(keys[at], synsets))

    pictures: list[list[Picture]] = [[] for _ in classes]
    with ThreadPoolExecutor(_WORKERS) as pool:
        for first in range(0, len(shown), _AT_ONCE):
            part = range(first, min(first + _AT_ONCE, len(shown)))
            for at, picture in zip(part, pool.map(draw, part), strict=True):
                pictures[int(payload.labels[shown[at][0]])].append(picture)
                tracker.advance()
            images.manifest.forget()
    return tuple(replace(each, pictures=tuple(drawn)) for each, drawn in zip(classes, pictures, strict=True))


def _picture(images: PayloadImages, position: int, key: str, rank: int, score: float | None) -> Picture:
    try:
        url, width, height = thumbnail(decode(images.read(position)))
    except Unreadable as err:  # one bad image must not keep a person from seeing the others
        return Picture(position=position, key=key, rank=rank, score=score, url="", problem=str(err))
    return Picture(position=position, key=key, rank=rank, score=score, url=url, width=width, height=height)


def _accuracies(
    summary: PayloadSummary, said: Mapping[str, Any], evaluated: ModelEvaluation | None
) -> tuple[Accuracy, ...]:
    accuracies = []
    teacher = said.get("teacher") or {"accuracy": summary.notes.get("teacher_accuracy")}
    for name, bounds, on in (
        ("accuracy", "interval", "the target's test images"),
        ("validation_accuracy", "validation_interval", "the target's own images, cross-validated or held out"),
    ):
        if isinstance(value := teacher.get(name), (int, float)):
            low, high = teacher.get(bounds) or (None, None)
            accuracies.append(Accuracy(who=TEACHER, on=on, value=float(value), low=low, high=high))
    if forecast := said.get("forecast"):
        low, high = forecast["interval"]
        on = "the target's own images, each judged by folds that have not seen it"
        accuracies.append(Accuracy(who=FORECAST, on=on, value=forecast["accuracy"], low=low, high=high))
    if evaluated is not None:
        tested = evaluated.evaluation
        on = f"{tested.images} test images of {evaluated.target}"
        accuracies.append(Accuracy(who=MODEL, on=on, value=tested.accuracy, low=tested.low, high=tested.high))
    return tuple(accuracies)


def _confusion(evaluated: ModelEvaluation) -> Confusion:
    tested = evaluated.evaluation
    classes = len(tested.classes)
    return Confusion(
        names=tuple(each.name for each in tested.classes),
        counts=tuple(map(tuple, tested.confusion.tolist())) if classes <= _TABLE else (),
        images=tested.images,
        pairs=tuple(tested.confused(12)),
        url=matrix_picture(tested.confusion.tolist()) if _TABLE < classes <= _DRAWN else "",
    )


def _histogram(scores: F64) -> Histogram | None:
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    # Equal scores share one bin: numpy would make the range up.
    bins = np.zeros(len(finite), np.int64)
    if high > low:
        bins = np.minimum(((finite - low) * (BINS / (high - low))).astype(np.int64), BINS - 1)
    return Histogram(low=low, high=high, counts=tuple(np.bincount(bins, minlength=BINS).tolist()))
