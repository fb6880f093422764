"""What a report says of a payload, collected: from its file, its selection's table, its images, a trained model."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.common.progress import Report, Tracker
from plada.common.version import __version__
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError, SideMissing, Unreadable
from plada.payload.inspect import PayloadSummary, summarise
from plada.payload.payload import Payload
from plada.reports.command_line import command_line
from plada.reports.findings import (
    BINS,
    Accuracy,
    ClassFacts,
    Confusion,
    Findings,
    Histogram,
    Picture,
    evenly,
    shares,
    spread_of,
)
from plada.reports.thumbnails import matrix_picture, thumbnail
from plada.selection.corrections import read_keys, read_labels
from plada.selection.table import Selected, read_selected
from plada.sources.decode import decode
from plada.trainer.model import ModelEvaluation, check_classes, evaluate_model
from plada.trainer.model_file import read_card
from plada.trainer.payload_file import PayloadContext, fetch, open_payload, shared_context_for
from plada.trainer.payload_images import PayloadImages, ReferenceCopy, open_payload_images
from plada.trainer.payload_summary import summarise_file
from plada.trainer.run import payload_digest

I64 = npt.NDArray[np.int64]
MODEL = "the model"
TEACHER = "the teacher"
FORECAST = "students, forecast"
_TABLE = 30  # classes up to which a confusion matrix is a table of numbers
_DRAWN = 1000  # classes up to which it is a picture
_WORKERS = 4  # threads that decode
_AT_ONCE = 128  # pictures, after which the manifest's rows are let go


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a report is asked for: the arguments of plada.report, checked; `asked` are those given, as plain values."""

    payload: str | Path
    selection: str | Path | None
    same_keys: bool
    model: str | Path | None
    target: str | Path | None
    weights: str | Path | None
    budget: int | None
    rates: tuple[int, ...]
    pictures: int
    device: str | None
    around: PayloadContext
    asked: Mapping[str, Any]


def collect(wanted: Wanted, report: Report) -> Findings:
    """All that can be said. What cannot is named in `unknown`. Raises as plada.report does."""
    payload, summary = _read(wanted)
    selected = read_selected(wanted.selection, payload) if wanted.selection is not None else None
    said: Mapping[str, Any] = selected.report if selected is not None else {}
    evaluated = _evaluated(wanted, selected, summary, report) if wanted.model is not None else None
    chosen, no_pictures = _reference(wanted, payload, report)
    classes = _classes(summary, payload, selected, said)
    if payload is not None and chosen is not None:
        classes = _with_pictures(classes, payload, selected, chosen, wanted.pictures, report)
    earlier = _earlier(selected, summary.names)
    forecast = said.get("forecast") or {}
    bits = [(name, each) for name, each in (("positions", summary.positions), ("labels", summary.labels)) if each]
    return Findings(
        title=Path(str(wanted.payload)).name,
        target=_target(wanted, selected, summary),
        rule=said.get("rule"),
        version=summary.version,
        bytes=summary.bytes,
        budget=wanted.budget if wanted.budget is not None else said.get("budget"),
        images=summary.images,
        reference=summary.reference,
        classes=classes,
        ranked=selected is not None,
        accuracies=_accuracies(summary, said, evaluated),
        points=tuple((int(size), float(value)) for size, value in forecast.get("points", ())),
        confusion=_confusion(evaluated) if evaluated is not None else None,
        histogram=_histogram(selected.scores) if selected is not None else None,
        sections=summary.sections,
        coder=summary.coder,
        coders=summary.coders or {},
        paper=summary.paper or {},
        bits=tuple((name, each.bits, each.entropy) for name, each in bits),
        air=summary.air,
        identity=_identity(wanted, summary, payload, chosen, said),
        commands=_commands(wanted, selected),
        remarks=(*_remarks(wanted, said, summary, payload, chosen), *earlier.problems),
        unknown=_unknown(wanted, summary, selected, no_pictures),
        excluded=earlier.excluded,
        relabelled=earlier.relabelled,
    )


def _read(wanted: Wanted) -> tuple[Payload | None, PayloadSummary]:
    """The payload, None where its labels need what is not here, and what can be said of its file."""
    around = wanted.around
    try:
        opened = open_payload(wanted.payload, around)
    except SideMissing:
        closed = summarise_file(wanted.payload, around, rates=wanted.rates)
        return None, closed
    side = shared_context_for(opened.header, around, "pack" if opened.header.pack_id else "manifest")
    return opened.payload, summarise(opened, side, rates=wanted.rates)


def _reference(wanted: Wanted, payload: Payload | None, report: Report) -> tuple[PayloadImages | None, str]:
    """The payload's images, or None and why: one that was named must be right, one that is looked for may be missing."""
    if payload is None or not wanted.pictures:
        return None, "" if wanted.pictures else "none were asked for"
    named = wanted.around.reference
    try:
        copy = ReferenceCopy(location=named, same_keys=wanted.same_keys, skip_changed=True)
        chosen = open_payload_images(payload, copy, home=wanted.around.home, report=report)
    except (RequestError, ReferenceMismatch, DataError) as err:
        if named is not None:
            raise
        return None, str(err)
    return chosen, ""


def _evaluated(wanted: Wanted, selected: Selected | None, summary: PayloadSummary, report: Report) -> ModelEvaluation:

    target = wanted.target or (selected.asked.get("target") if selected is not None else None)
    assert wanted.model is not None
    if target is None:
        raise RequestError("--model is tested on a target's test images: name the --target, too")
    made = evaluate_model(
        wanted.model,
        target,
        weights=wanted.weights,
        device=wanted.device,
        home=wanted.around.home,
        report=report,
    )
    check_classes(summary.names, tuple(each.name for each in made.evaluation.classes), str(wanted.model))
    return made


def _classes(
    summary: PayloadSummary, payload: Payload | None, selected: Selected | None, said: Mapping[str, Any]
) -> tuple[ClassFacts, ...]:
    before = said.get("reference_counts") or {}
    after = payload.class_counts() if payload is not None else [None] * len(summary.names)
    scores: list[Any] = [None] * len(summary.names)
    if payload is not None and selected is not None:
        order = np.argsort(payload.labels, kind="stable")
        parts = np.split(selected.scores[order], np.cumsum(payload.class_counts())[:-1])
        scores = [spread_of(part.tolist()) for part in parts]
    return tuple(
        ClassFacts(name=name, before=before.get(name), after=count, scores=spread)
        for name, count, spread in zip(summary.names, after, scores, strict=True)
    )


def _with_pictures(
    classes: tuple[ClassFacts, ...],
    payload: Payload,
    selected: Selected | None,
    chosen: PayloadImages,
    most: int,
    report: Report,
) -> tuple[ClassFacts, ...]:
    """The classes with their pictures: the same number of each as far as it has them, evenly from its first to its last."""
    counts = payload.class_counts()
    # Within a class by rank where there is one, else as positions rise.
    order = np.lexsort((selected.ranks if selected is not None else payload.positions, payload.labels))
    starts = np.append(0, np.cumsum(counts))
    wanted = [
        (int(order[starts[label] + rank]), rank)
        for label, places in enumerate(shares(counts, most))
        for rank in evenly(counts[label], places)
    ]
    keys = chosen.manifest.keys_at(payload.positions[[row for row, _ in wanted]]) if wanted else []
    tracker = Tracker("pictures", len(wanted), report)

    def one(at: int) -> Picture:
        row, rank = wanted[at]
        score = float(selected.scores[row]) if selected is not None else None
        return _picture(chosen, int(payload.positions[row]), keys[at], rank, score)

    found: list[list[Picture]] = [[] for _ in classes]
    with ThreadPoolExecutor(_WORKERS) as pool:
        for first in range(0, len(wanted), _AT_ONCE):
            some = range(first, min(first + _AT_ONCE, len(wanted)))
            for at, picture in zip(some, pool.map(one, some), strict=True):
                found[int(payload.labels[wanted[at][0]])].append(picture)
                tracker.advance()
            chosen.manifest.forget()
    return tuple(replace(each, pictures=tuple(shown)) for each, shown in zip(classes, found, strict=True))


def _picture(chosen: PayloadImages, position: int, key: str, rank: int, score: float | None) -> Picture:

    try:
        url, width, height = thumbnail(decode(chosen.read(position)))
    except Unreadable as err:  # one bad image must not keep a person from seeing the others
        return Picture(position=position, key=key, rank=rank, score=score, url="", problem=str(err))
    return Picture(position=position, key=key, rank=rank, score=score, url=url, width=width, height=height)


def _accuracies(
    summary: PayloadSummary, said: Mapping[str, Any], evaluated: ModelEvaluation | None
) -> tuple[Accuracy, ...]:
    found = []
    taught = said.get("teacher") or {"accuracy": summary.notes.get("teacher_accuracy")}
    for name, around, on in (
        ("accuracy", "interval", "the target's test images"),
        ("validation_accuracy", "validation_interval", "the target's own images, cross-validated or held out"),
    ):
        if isinstance(value := taught.get(name), (int, float)):
            low, high = taught.get(around) or (None, None)
            found.append(Accuracy(who=TEACHER, on=on, value=float(value), low=low, high=high))
    if forecast := said.get("forecast"):
        low, high = forecast["interval"]
        on = "the target's own images, each judged by folds that have not seen it"
        found.append(Accuracy(who=FORECAST, on=on, value=forecast["accuracy"], low=low, high=high))
    if evaluated is not None:
        made = evaluated.evaluation
        on = f"{made.images} test images of {evaluated.target}"
        found.append(Accuracy(who=MODEL, on=on, value=made.accuracy, low=made.low, high=made.high))
    return tuple(found)


def _confusion(evaluated: ModelEvaluation) -> Confusion:

    made = evaluated.evaluation
    classes = len(made.classes)
    return Confusion(
        names=tuple(each.name for each in made.classes),
        counts=tuple(map(tuple, made.confusion.tolist())) if classes <= _TABLE else (),
        images=made.images,
        pairs=tuple(made.confused(12)),
        url=matrix_picture(made.confusion.tolist()) if _TABLE < classes <= _DRAWN else "",
    )


def _histogram(scores: npt.NDArray[np.float64]) -> Histogram | None:
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    # Of equal scores, one bin: numpy would make the range up.
    places = np.zeros(len(finite), np.int64)
    if high > low:
        places = np.minimum(((finite - low) * (BINS / (high - low))).astype(np.int64), BINS - 1)
    return Histogram(low=low, high=high, counts=tuple(np.bincount(places, minlength=BINS).tolist()))


def _target(wanted: Wanted, selected: Selected | None, summary: PayloadSummary) -> str | None:
    named = wanted.target or (selected.asked.get("target") if selected is not None else None)
    noted = summary.notes.get("target")
    return noted if isinstance(noted, str) else str(named) if named is not None else None


def _identity(
    wanted: Wanted,
    summary: PayloadSummary,
    payload: Payload | None,
    chosen: PayloadImages | None,
    said: Mapping[str, Any],
) -> tuple[tuple[str, str], ...]:

    rows = [
        ("file", str(wanted.payload)),
        ("SHA-256 of the file", hashlib.sha256(fetch(wanted.payload)).hexdigest()),
        ("digest of the content", payload.digest().hex() if payload is not None else ""),
        ("format", f"payload version {summary.version}"),
        ("serial number", str(summary.serial) if summary.serial else "none"),
        ("signature", f"by key {summary.signed_by}, not checked here" if summary.signed else "none"),
        ("coder", summary.coder or ""),
        ("segments", str(summary.segments[1]) if summary.segments else ""),
        ("reference", f"{summary.reference} images"),
        ("key id of the reference", summary.key_id),
        ("content id of the reference", summary.content_id),
        ("pack", summary.pack_id or ""),
        ("reference here", chosen.location if chosen is not None else ""),
        ("rule", said.get("rule", "")),
        ("teacher", (said.get("teacher") or {}).get("kind", "")),
        ("model", str(wanted.model or "")),
        ("written by", f"plada {__version__}"),
    ]
    return tuple((name, str(value)) for name, value in rows if value)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """Corrections that the selection was already made with: the next lists must hold them too."""

    excluded: tuple[str, ...] = ()
    relabelled: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def _earlier(selected: Selected | None, classes: tuple[str, ...]) -> _Earlier:

    asked = selected.asked if selected is not None else {}
    excluded: list[str] = []
    relabelled: list[tuple[str, str]] = []
    problems = []
    try:
        if path := asked.get("exclude"):
            excluded = read_keys(Path(str(path)))
        if path := asked.get("relabel"):
            keys, labels = read_labels(Path(str(path)), classes)
            relabelled = [(key, classes[label]) for key, label in zip(keys, labels.tolist(), strict=True)]
    except (RequestError, DataError) as err:
        problems.append(f"Corrections of before are not in the lists that this page writes ({err}). Add them by hand.")
    return _Earlier(tuple(excluded), tuple(relabelled), tuple(problems))


def _commands(wanted: Wanted, selected: Selected | None) -> tuple[tuple[str, str], ...]:
    asked = {name: value for name, value in wanted.asked.items() if name != "payload"}
    file = str(wanted.payload)
    lines = [("write this report again", command_line("report", [file], asked))]
    if selected is not None and selected.asked:
        corrected = {**selected.asked, "exclude": "exclude.txt", "relabel": "relabel.csv"}
        lines[:0] = [
            ("choose these images again", command_line("select", [], selected.asked)),
            (
                "choose with your corrections (leave out a list that you do not have)",
                command_line("select", [], corrected),
            ),
        ]
    reference = wanted.around.reference
    lines.append(
        ("train on them", command_line("train", [file], {"reference": str(reference)} if reference is not None else {}))
    )
    return tuple(lines)


def _remarks(
    wanted: Wanted,
    said: Mapping[str, Any],
    summary: PayloadSummary,
    payload: Payload | None,
    chosen: PayloadImages | None,
) -> tuple[str, ...]:
    """What a person should hear before sending."""
    lines = []
    if empty := said.get("empty_classes"):
        lines.append(
            f"The teacher calls no image of the reference {', '.join(map(str, empty))}: students cannot learn it."
        )
    elif payload is not None and (
        bare := [n for n, c in zip(summary.names, payload.class_counts(), strict=True) if not c]
    ):
        named = ", ".join(bare[:5]) + (f" and {len(bare) - 5} more" if len(bare) > 5 else "")
        lines.append(f"No image is labelled {named}: students cannot learn it.")
    if leaks := said.get("leaks"):
        lines.append(
            f"{len(leaks)} chosen images are near copies of test images of the target; select --drop-leaks leaves them out."
        )
    for name, before in (
        ("rule_note", "Rule: "),
        ("target_note", "Target: "),
        ("leaks_note", "Not compared with test images: "),
    ):
        if said.get(name):
            lines.append(f"{before}{said[name]}.")
    if wanted.model is not None and payload is not None and not _trained_on(wanted.model, payload):
        lines.append(f"The model {Path(str(wanted.model)).name} was not trained on this payload.")
    if chosen is not None and chosen.lost:
        lines.append(
            f"{len(chosen.lost)} of the images looked at are missing here or have changed since the manifest was made."
        )
    if chosen is not None and payload is not None and not chosen.manifest.content_id.startswith(payload.content_id):
        lines.append("The pictures are of a copy with other bytes than the payload's reference (--same-keys).")
    return tuple(lines)


def _trained_on(model: str | Path, payload: Payload) -> bool:

    try:
        return bool(read_card(Path(model)).get("run", {}).get("payload") == payload_digest(payload))
    except PladaError:
        return False


def _unknown(wanted: Wanted, summary: PayloadSummary, selected: Selected | None, no_pictures: str) -> tuple[str, ...]:
    lines = []
    if summary.missing:
        lines.append(f"Which images, and their labels: {summary.missing}")
    elif no_pictures:
        lines.append(f"Pictures: {no_pictures}")
    if selected is None:
        more = ", the budget" if wanted.budget is None else ""
        lines.append(
            f"Scores, class counts before the choice, the forecast{more}: no payload carries them. Write the selection's "
            "table with plada select --table FILE, and give it: --selection FILE"
        )
    elif not selected.report:
        lines.append("The table says nothing of how it was made: another program has written it again")
    if wanted.model is None:
        lines.append("The accuracy that was reached: train a student, and give it with --model and --target")
    return tuple(lines)
