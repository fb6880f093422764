"""`plada select` as a Python call: it reads like the method, one call a step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plada.api.payload import sender_for
from plada.common.files import home_directory, write_bytes
from plada.common.progress import Clock, Report, Tracker, silent
from plada.common.statistics import probabilities
from plada.common.units import parse_share, parse_size
from plada.errors import DataError, RequestError, UnknownName
from plada.labeler.label import Labelled, Picks, Vectors, joint_logits, label
from plada.labeler.linear_teacher import EmbeddedTarget, embed_split
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.teachers import Ensemble, TeacherOptions, teach
from plada.payload.payload import Payload
from plada.payload.sender import Delivery, Sender
from plada.reports.plots import class_histogram
from plada.reports.selection_sheets import write_percentiles, write_sheet
from plada.retrieval.index import Index, open_index
from plada.selection.auto import Auto, choose_rule
from plada.selection.candidates import corrected, without_near_duplicates
from plada.selection.compose import about_table, asked_of, header_of, label_bytes, notes_of, payload_of
from plada.selection.corrections import read_keys
from plada.selection.leaks import SelectionCheck, without
from plada.selection.prepare import Prepared, prepare
from plada.selection.rules.registry import AUTO, DEFAULT, RULES, Chosen
from plada.selection.selection import Selection, SelectionReport, make_table
from plada.selection.soft import HARD, LABELS, soft_labels
from plada.selection.table import write_table
from plada.sources.registry import open_target
from plada.sources.targets.target import EmptyCollection, Split, Target

I64 = npt.NDArray[np.int64]
_PACK_GAIN = 1.7  # times the images that fit at most where the client has the pack (docs/log.md: 0.6 of the bytes)
CLASSES = "classes:"
BLIND = "spread"  # the rule where no image of the target can be looked at
EMBEDDINGS, TEACHERS = "embeddings", "teachers"  # folders of the home's cache


def select(
    index: Index | str | Path | None = None,
    *,
    target: str | Path,
    budget: str | int = "1MB",
    keep: str | float | None = None,
    rule: str = "auto",
    labels: str = "hard",
    teacher: str | Sequence[str] = "linear",
    teacher_weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    weights: str | Path | None = None,
    exhaustive: bool = False,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    progressive: str | None = None,
    segments: int | None = None,
    sign: str | Path | None = None,
    serial: int = 0,
    recipe: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    sheet: str | Path | None = None,
    percentiles: str | Path | None = None,
    histogram: str | Path | None = None,
    table: str | Path | None = None,
    exclude: str | Path | None = None,
    relabel: str | Path | None = None,
    distinct: float | None = None,
    drop_leaks: bool = False,
    force: bool = False,
    seed: int = 0,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> Selection:
    """Choose and label reference images for a target, as many as fit into the budget, or the share `keep` ("1%", 0.01).

    `index` is an opened index, its name, or None for the only one there is. A target `classes:cat,dog` (or `classes:FILE`) has
    no images, for teachers that need none. `rule` is `auto`, which tries some and takes
    the one that teaches best, judged on the target's own training and validation images, or a rule's name. `labels` are `hard`,
    or the paper's variants `soft` and `dirichlet`: what each class is like, by the teacher's odds, rides along in the notes.

    `teacher` is `linear` (on the index's embeddings), `finetune:ARCH` (a network trained on the target; `teacher_weights`,
    `model_args`, `image_size` say how it starts), `zeroshot` (class names through the encoder's text tower), `table:FILE`
    (logits), `MODULE:FUNCTION`, or several of them, which vote. One that must look at pictures sees the candidates that
    a linear teacher finds, or with `exhaustive` every image. One at chance is refused unless `force`.

    `client_has` (nothing, manifest, pack), `pack`, `progressive` (blocks, layers), `segments` and `sign` say how the file is
    written (plada.api.payload); `serial` is its serial number. `recipe` are training options to recommend to clients. The file goes to `out` if given; `sheet` shows the best images of each class,
    `percentiles` images by their score, `histogram` the classes before and after, `table` the rows and this call's report (Parquet, for `plada.report`). Keys
    listed in `exclude` are left out; `relabel` is a table of keys and labels that are right. Of images of a class whose embeddings have a cosine
    above `distinct` only the surest can be chosen. Chosen images that are near
    copies of test images are named in the report; `drop_leaks` takes others instead.

    Raises:
        UnknownName: no such index, target, rule, teacher. BudgetTooSmall: not one label a class.
        DataError: a class without images, nothing readable, a teacher at chance, bad logits or corrections.
        RequestError: an impossible keep rate. ReferenceMismatch: the encoder or images have changed.
    """

    if rule != AUTO and rule not in RULES:
        raise UnknownName("rule", rule, [AUTO, *RULES])
    if labels not in LABELS:
        raise UnknownName("kind of labels", labels, list(LABELS))
    asked = asked_of(select, locals())
    limit, clock, root = parse_size(budget), Clock(), home_directory(home)
    with clock("load"):
        opened = _opened(index, home)
        task = _named_only(target) or open_target(target, root)
        encoder = opened.encoder(weights, device) if weights else opened.lazy_encoder(device)
        sender = sender_for(
            header_of(opened),
            Delivery(client_has=client_has, pack=pack, progressive=progressive, segments=segments, sign=sign),
            home=root,
        )  # fmt: skip
        # A pack's coder learns while it codes, a second for each size that is asked: a plain one leads the way.
        cheap = sender_for(header_of(opened), home=root) if client_has == "pack" and progressive is None else None
        wanted = _kept(keep, opened.readable)
    with clock("embed"):
        views = _embed(encoder, task, root, report)
    with clock("teacher"):
        options = TeacherOptions(
            weights=Path(teacher_weights) if teacher_weights else None, model_args=tuple((model_args or {}).items()),
            image_size=image_size, force=force, cache=root / "cache" / TEACHERS, seed=seed, device=device,
        )  # fmt: skip
        taught = teach(opened, task, teacher, views, options, report)
    with clock("label"):
        notes = notes_of(task, taught, recipe, limit)
        labelled = label(
            opened, task, taught, views, exhaustive=exhaustive, budget=limit, seed=seed, report=report,
            picks=_picks(opened, task, views, cheap or sender, rule, int(limit * _PACK_GAIN) if cheap else limit, wanted, notes, seed),
        )  # fmt: skip
        candidates = corrected(opened, task, labelled.labels, exclude, relabel)
        pseudo = candidates if distinct is None else without_near_duplicates(candidates, labelled.vectors, distinct)
    ask = _Ask(opened, task, taught, views, labelled, rule, limit, wanted, notes, seed,
               sender, cheap, serial, _Softener(opened, taught, labelled, labels, report))  # fmt: skip
    with clock("choose"):
        made = _choose(ask, pseudo, report)
    with clock("leaks"):
        made = _without_leaks(ask, made, pseudo, drop_leaks, report)
    with clock("write"):
        rows = _write(ask, made, out=out, sheet=sheet, percentiles=percentiles, histogram=histogram)
    told = {
        "payload": str(out) if out is not None else None, "client_has": client_has, "progressive": progressive,
        "serial": serial, "labels": labels, "copies": len(candidates) - len(pseudo), "seconds": clock.seconds,
    }  # fmt: skip
    summary = _summary(ask, made, told)
    if table is not None:
        write_table(rows, Path(table), about_table(summary, asked))

    return Selection(rows, made.payload, summary)


@dataclass(frozen=True, slots=True)
class _Ask:
    index: Index
    task: Target
    taught: Ensemble
    views: EmbeddedTarget
    labelled: Labelled
    rule: str
    budget: int
    keep: int | None
    notes: Mapping[str, Any]
    seed: int
    sender: Sender
    cheap: Sender | None
    serial: int
    soften: "_Softener"


class _Softener:
    """Notes on what classes are like, for a choice of images; a teacher is asked once about each image."""

    def __init__(self, index: Index, taught: Ensemble, labelled: Labelled, kind: str, report: Report) -> None:
        self.index, self.taught, self.labelled, self.kind, self.report = index, taught, labelled, kind, report
        self._known: dict[int, npt.NDArray[np.float32]] = {}  # odds by position

    def note(self, positions: I64, labels: I64) -> dict[str, Any]:
        """The member of the notes; nothing for hard labels.

        Raises:
            DataError: an image can no longer be read.
        """

        if self.kind == HARD:
            return {}
        fresh = np.array(sorted(set(positions.tolist()) - self._known.keys()), np.int64)
        if len(fresh):
            self._known.update(zip(fresh.tolist(), self._odds(fresh), strict=True))
        odds = np.stack([self._known[position] for position in positions.tolist()])
        return soft_labels(odds, labels, odds.shape[1], self.kind).note()

    def _odds(self, positions: I64) -> npt.NDArray[np.float32]:
        """Calibrated odds [n, classes] at rising positions [n]."""

        teachers = self.taught.teachers
        readable, logits = joint_logits(self.index, teachers, positions, self.labelled.vectors, self.report)
        if len(readable) != len(positions):
            gone = int(np.setdiff1d(positions, readable)[0])
            raise DataError(f"index '{self.index.name}': image {gone} can no longer be read. Look at the reference")
        return probabilities(logits, teachers[0].temperature if len(teachers) == 1 else 1.0)


@dataclass(frozen=True, slots=True)
class _Made:
    """A choice of `labels`, and what of it and of choices before it leaks (plada.sources.leaks.leaks.Leak)."""

    labels: PseudoLabels
    auto: Auto
    chosen: Chosen
    payload: Payload
    leaks: tuple[Any, ...] = ()
    dropped: tuple[Any, ...] = ()
    leaks_note: str = ""


def _named_only(target: str | Path) -> Target | None:
    """`classes:cat,dog` or `classes:FILE` (a name a line): a target of which nothing but the names is known; else None.

    Raises:
        RequestError: fewer than two different names, a file that cannot be read.
    """
    text = str(target)
    if not text.startswith(CLASSES):
        return None
    place = Path(text.removeprefix(CLASSES)).expanduser()
    if place.is_file():
        names, title = read_keys(place), place.stem
    else:
        names, title = [name.strip() for name in text.removeprefix(CLASSES).split(",") if name.strip()], "classes"
    if len(names) < 2 or len(set(names)) != len(names):
        raise RequestError(
            f"target {text}: expected two or more different class names, commas between, or a file of them"
        )
    nothing = Split(EmptyCollection(text), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Target(title, tuple(names), nothing, nothing, None, note="class names alone, no images")


def _embed(encoder: Any, task: Target, root: Path, report: Report) -> EmbeddedTarget:

    cache = root / "cache" / EMBEDDINGS
    train, validation = (
        embed_split(encoder, split, stage=stage, report=report, cache=cache)
        for split, stage in ((task.train, "train images"), (task.validation, "validation images"))
    )
    test = embed_split(encoder, task.test, stage="test images", report=report, cache=cache) if task.test else None
    return EmbeddedTarget(train, validation, test)


def _choose(ask: _Ask, labels: PseudoLabels, report: Report) -> _Made:
    prepared = prepare(
        labels, ask.labelled.vectors, ask.index.mean, ask.views.train, ask.views.validation,
        relabel=ask.taught.linear, penalty=ask.taught.penalty, judge=True, seed=ask.seed, around=ask.labelled.around,
        # What a pack's coder finds cheap are images that herding likes, not open folders.
        blocks=None if ask.sender.side.features is not None else ask.sender.side.blocks,
    )  # fmt: skip
    tracker, cheap = Tracker("choose", None, report), ask.cheap

    def payload(chosen: Chosen) -> Payload:
        note = ask.soften.note(labels.positions[chosen.rows], labels.labels[chosen.rows])
        return payload_of(ask.index, ask.task, labels, chosen.rows, {**ask.notes, **note}, ask.serial)

    found = choose_rule(
        labels, prepared.context, prepared.folds, lambda chosen: ask.sender.size(payload(chosen)),
        budget=ask.budget, least=int((labels.counts() > 0).sum()), keep=ask.keep,
        rough=None if cheap is None else lambda chosen: cheap.size(payload(chosen)),
        only=None if ask.rule == AUTO and len(ask.views.train.labels) else BLIND if ask.rule == AUTO else ask.rule, advance=lambda name: tracker.say(f"trying {name}"),
    )  # fmt: skip
    return _Made(labels, found, found.trial.made, payload(found.trial.made))


def _without_leaks(ask: _Ask, made: _Made, labels: PseudoLabels, drop: bool, report: Report) -> _Made:
    """The choice with its near copies of test images named, or with `drop` another one that has none.

    Raises:
        DataError: nothing else can be chosen. Others, with `drop`: the reference is not here.
    """

    leaks_in = SelectionCheck(ask.task.test, ask.index.reference, must=drop, report=report)
    leaks, dropped = leaks_in(made.payload.positions), made.dropped
    while leaks and drop:
        dropped = (*dropped, *leaks)
        labels = without(labels, [leak.position for leak in leaks])
        made = _choose(ask, labels, report)
        leaks = leaks_in(made.payload.positions)
    return replace(made, leaks=leaks, dropped=dropped, leaks_note=leaks_in.note)


def _write(
    ask: _Ask,
    made: _Made,
    *,
    out: str | Path | None,
    sheet: str | Path | None,
    percentiles: str | Path | None,
    histogram: str | Path | None,
) -> Any:
    """The files that were asked for; the selection's table (pyarrow) comes back."""

    index, classes = ask.index, ask.task.classes
    rows = make_table(made.labels, made.chosen, index.keys(made.labels.positions[made.chosen.rows]))
    if out is not None:
        write_bytes(Path(out), ask.sender.encode(made.payload))
    title = f"{ask.task.name} from {index.name}: {made.auto.rule}"
    if sheet is not None:
        write_sheet(rows, classes, index.reference(), Path(sheet), title=title)
    if percentiles is not None:
        write_percentiles(rows, classes, index.reference(), Path(percentiles), title=title)
    if histogram is not None:
        before = made.labels.population().tolist()
        class_histogram(before, made.payload.class_counts(), classes, Path(histogram), title)
    return rows


def _summary(ask: _Ask, made: _Made, told: Mapping[str, Any]) -> SelectionReport:
    """`told`: what `select` alone knows."""

    classes, payload = ask.task.classes, made.payload
    before = made.labels.population().tolist()
    return SelectionReport(
        **told,
        bytes=made.auto.trial.bytes,
        budget=ask.budget,
        images=len(payload),
        classes=len(classes),
        class_counts=dict(zip(classes, payload.class_counts(), strict=True)),
        reference_counts=dict(zip(classes, before, strict=True)),
        empty_classes=tuple(name for name, count in zip(classes, before, strict=True) if not count),
        keep_rate=len(payload) / len(ask.index),
        rule=made.auto.rule,
        rule_note=made.auto.note,
        coder=ask.sender.coder(payload),
        signed_by=ask.sender.signer.fingerprint.hex() if ask.sender.signer is not None else None,
        teacher=ask.taught.report,
        looked_at=ask.labelled.looked_at,
        label_bytes=label_bytes(payload, ask.sender),
        tried=made.auto.tried,
        forecast=made.auto.forecast,
        left_out=ask.views.train.left_out + ask.views.validation.left_out,
        target_note="; ".join(part for part in (ask.task.note, _thin(ask.task, ask.views)) if part),
        leaks=made.leaks,
        leaks_dropped=made.dropped,
        leaks_note=made.leaks_note,
    )


def _picks(
    index: Index,
    task: Target,
    views: EmbeddedTarget,
    sender: Sender,
    rule: str,
    budget: int,
    keep: int | None,
    notes: Mapping[str, Any],
    seed: int,
) -> Picks | None:
    """What the rule (of `auto` the default) would choose of some pseudo-labels, unjudged; None for rules that do not look at the
    target: the candidates of one pass hold what these choose."""

    name = DEFAULT if rule == AUTO else rule
    if not RULES[name].near or not len(views.train.labels):
        return None
    kept: list[Prepared] = []  # the axes are the same as long as the positions are

    def picks(labels: PseudoLabels, vectors: Vectors) -> I64:
        if not kept or not np.array_equal(kept[0].labels.positions, labels.positions):
            kept[:] = [
                prepare(
                    labels, vectors, index.mean, views.train, views.validation, relabel=False, judge=False, seed=seed
                )
            ]
        found = choose_rule(
            labels, kept[0].context, [], lambda chosen: sender.size(payload_of(index, task, labels, chosen.rows, notes, 0)),
            budget=budget, least=int((labels.counts() > 0).sum()), keep=keep, only=name,
        )  # fmt: skip
        return found.trial.made.rows

    return picks


def _kept(keep: str | float | None, images: int) -> int | None:
    """Images that a keep rate stands for: floor(rate x images), as the paper counts them.

    Raises:
        RequestError: not a share above 0 and up to 1.
    """
    if keep is None:
        return None
    return max(1, int(parse_share(keep) * images + 1e-9))


def _thin(task: Target, views: EmbeddedTarget) -> str:
    """What is said of classes with a single image."""
    counts = np.bincount(np.concatenate([views.train.labels, views.validation.labels]), minlength=len(task.classes))
    single = [name for name, count in zip(task.classes, counts, strict=True) if count == 1]
    if not single:
        return ""
    return (
        f"a single image of {', '.join(single[:3])}{', ...' if len(single) > 3 else ''}: it trains, nothing judges it"
    )


def _opened(index: Index | str | Path | None, home: str | Path | None) -> Index:

    return index if isinstance(index, Index) else open_index(index, home=home)
