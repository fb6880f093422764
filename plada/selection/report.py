"""What `plada select` says of its work."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from plada.common.arrays import F32
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.evaluation import TeacherReport
from plada.labeler.label import LabelledReference
from plada.payload.calibration import NOTE as CALIBRATION
from plada.payload.sender import Delivery
from plada.payload.soft_labels import NOTE as SOFT_LABELS
from plada.selection.auto import AccuracyForecast, RuleTrial
from plada.selection.choose import Draft
from plada.selection.compose import Composer
from plada.selection.leaks import SelectionLeaks
from plada.selection.nearness import Nearness
from plada.sources.leaks.leaks import Leak
from plada.sources.targets.target import Target

THIN = 5  # images of a class below which students learn little of it
_MAX_SHARED = 0.1  # share of test images among the training images from which on it is said
_SAME = 1 - 1e-6  # cosine of the embeddings of one picture
_SAMPLE = 500  # test images that are compared
_BLOCK = 16_384


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SelectionReport:
    """The fields of `plada select --json`.

    `reference_counts` are the pseudo-labels of each class in the whole reference, before the choice; `looked_at` is the
    number of images that the teacher was run on; `rule_note` says why the rule is not the default, or could not be judged.
    """

    payload: str | None
    bytes: int
    budget: int
    images: int
    classes: int
    class_counts: Mapping[str, int]
    reference_counts: Mapping[str, int]
    empty_classes: tuple[str, ...]
    keep_rate: float
    rule: str
    rule_note: str
    coder: str
    teacher: TeacherReport
    looked_at: int
    copies: int  # candidates that were left out as near-duplicates of better ones
    labels: str  # hard, soft or dirichlet
    label_bytes: int  # what is not hard costs in the file
    tried: tuple[RuleTrial, ...]
    forecast: AccuracyForecast | None
    nearness: Nearness | None  # how near the reference comes to the target; None: it has no images
    alternatives: Mapping[
        str, float
    ]  # accuracy that other messages of as many bytes are expected to give; with `compare`
    left_out: int  # target images that could not be read
    left_out_examples: tuple[str, ...]  # keys of the first of them
    target_note: str  # how the target was split where that is not its publisher's, and counts that are not the known
    leaks: tuple[Leak, ...]  # chosen images that are near copies of test images
    leaks_dropped: tuple[Leak, ...]  # the same, of images that were left out for it
    relabel_note: str  # how many corrected images could not be chosen; empty where all could
    leaks_note: str  # why nothing could be checked, or nothing
    seconds: Mapping[str, float]
    client_has: str = "manifest"  # what readers need beside the images: nothing, manifest, pack
    remarks: tuple[str, ...] = ()  # what makes students or figures worse than they look, with what to do
    progressive: str | None = None
    signed_by: str | None = None  # fingerprint of the key
    serial: int = 0
    calibration_bytes: int = 0  # what clients' calibration costs in the file

    def __repr__(self) -> str:
        size = f"{self.images} images of {self.classes} classes, {self.bytes} of {self.budget} bytes"
        forecast = f", forecast {self.forecast.accuracy:.1%}" if self.forecast is not None else ""
        return f"<SelectionReport: {self.rule}, {size}{forecast}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def untimed(self) -> dict[str, Any]:
        """Plain values without seconds: the same for the same call."""
        values = asdict(self)
        for timed in (values, *values["tried"]):
            timed.pop("seconds")
        return values

    def leaks_in_words(self) -> str:
        """One line on the leaks of the selection; empty without any."""
        return _in_words(self.leaks)

    def nearness_in_words(self) -> str:
        """What is said of a target that is far from the reference; empty for others."""
        near, forecast, teacher = self.nearness, self.forecast, self.teacher.validation_accuracy
        if near is None or not near.far:
            return ""
        name, ratio = near.farthest()
        text = (
            f"the reference has few images like these: they are {near.ratio:.2f} times as far from it as its own images are from "
            f"each other (farthest: class '{name}', {ratio:.2f})"
        )
        if forecast is not None and teacher is not None:
            text += f". The teacher is right on {teacher:.1%}, students on the index's embedding are expected to be on {forecast.accuracy:.1%}"
            if forecast.second_view is not None:
                text += f", students elsewhere on {forecast.second_view:.1%}"
        return text

    def dropped_in_words(self) -> str:
        """One line on the leaks that were left out; empty without any."""
        return _in_words(self.leaks_dropped)


def _in_words(leaks: Sequence[Leak]) -> str:
    if not leaks:
        return ""
    images, first = len({leak.position for leak in leaks}), leaks[0]
    what = f"{first.kind}{f', {first.change}' if first.change else ''}"
    return f"{images} chosen image(s) are copies of test images, such as {first.key} of {first.test_key} ({what})"


def summarise(
    draft: Draft,
    leaks: SelectionLeaks,
    composer: Composer,
    labelled: LabelledReference,
    embedded: EmbeddedTarget,
    teacher: TeacherReport,
    *,
    payload: str | None,
    budget: int,
    labels: str,
    delivery: Delivery,
    copies: int,
    keep: int | None,
    relabel_note: str,
    alternatives: Mapping[str, float],
    seconds: Mapping[str, float],
) -> SelectionReport:
    """The report of a draft that is final."""
    target, sender, choice = composer.target, composer.sender, draft.choice
    before, after = draft.labels.population().tolist(), draft.payload.class_counts()
    notes = (target.note, _single_images(target, embedded))
    return SelectionReport(
        payload=payload,
        bytes=choice.trial.bytes,
        budget=budget,
        images=len(draft.payload),
        classes=len(target.classes),
        class_counts=dict(zip(target.classes, after, strict=True)),
        reference_counts=dict(zip(target.classes, before, strict=True)),
        empty_classes=tuple(name for name, count in zip(target.classes, before, strict=True) if not count),
        keep_rate=len(draft.payload) / len(composer.index),
        rule=choice.rule,
        rule_note=choice.note,
        coder=sender.coder(draft.payload),
        teacher=teacher,
        looked_at=labelled.looked_at,
        copies=copies,
        labels=labels,
        label_bytes=composer.note_bytes(draft.payload, SOFT_LABELS),
        calibration_bytes=composer.note_bytes(draft.payload, CALIBRATION),
        tried=choice.tried,
        forecast=choice.forecast,
        nearness=draft.nearness,
        alternatives=alternatives,
        left_out=embedded.train.left_out + embedded.validation.left_out,
        left_out_examples=(*embedded.train.lost, *embedded.validation.lost)[:3],
        target_note="; ".join(note for note in notes if note),
        leaks=leaks.found,
        leaks_dropped=leaks.dropped,
        relabel_note=relabel_note,
        leaks_note=leaks.note,
        seconds=seconds,
        client_has=delivery.client_has,
        remarks=tuple(line for line in _remarks(draft, composer, embedded, budget, before, after, keep=keep) if line),
        progressive=delivery.progressive,
        signed_by=sender.signer.fingerprint.hex() if sender.signer is not None else None,
        serial=delivery.serial,
    )


def _single_images(target: Target, embedded: EmbeddedTarget) -> str:
    """What is said of classes with a single image."""
    counts = np.bincount(embedded.known.labels, minlength=len(target.classes))
    single = [name for name, count in zip(target.classes, counts, strict=True) if count == 1]
    if not single:
        return ""
    more = ", ..." if len(single) > 3 else ""
    return f"a single image of {', '.join(single[:3])}{more}: it trains, nothing judges it"


def _remarks(
    draft: Draft,
    composer: Composer,
    embedded: EmbeddedTarget,
    budget: int,
    before: Sequence[int],
    after: Sequence[int],
    *,
    keep: int | None,
) -> list[str]:
    """A line each on what makes students or figures worse than they look, with what to do; empty lines where nothing does."""
    classes = composer.target.classes
    return [
        _single_class(classes),
        _tested_on_training(composer.target, embedded),
        emptied_in_words(classes, before, after, images=composer.index.readable, keep=keep is not None)
        or thin_in_words(classes, before, after, keep=keep is not None),
        _unused_budget(draft, budget),
    ]


def _single_class(classes: Sequence[str]) -> str:
    if len(classes) != 1:
        return ""
    return (
        f"'{classes[0]}' is the only class, so whatever students see they call it that, and an accuracy of 100 % says nothing. Add "
        "a class of other images"
    )


def _tested_on_training(target: Target, embedded: EmbeddedTarget) -> str:
    if embedded.test is None:
        return ""
    share = shared_share(embedded.test.vectors, embedded.known.vectors)
    if share < _MAX_SHARED:
        return ""
    return (
        f"target {target.name}: {share:.0%} of its test images are also training images, so the teacher's test accuracy is too "
        "high. Move them out of one of the two"
    )


def shared_share(test: F32, known: F32) -> float:
    """Share of the test images, of a sample of them, that an image of `known` has the embedding of; vectors float32 [n, d], [m, d]."""
    if not len(test) or not len(known):
        return 0.0
    sample = test[:: -(-len(test) // _SAMPLE)]
    nearest = np.full(len(sample), -1.0)
    lengths = np.linalg.norm(sample, axis=1)
    for start in range(0, len(known), _BLOCK):
        some = known[start : start + _BLOCK]
        scale = np.maximum(np.outer(lengths, np.linalg.norm(some, axis=1)), np.finfo(np.float32).tiny)
        np.maximum(nearest, (sample @ some.T / scale).max(axis=1), out=nearest)
    return float((nearest > _SAME).mean())


def emptied_in_words(
    classes: Sequence[str], before: Sequence[int], after: Sequence[int], *, images: int, keep: bool
) -> str:
    """What is said of classes that the reference has images of (`before`), and the choice none (`after`)."""
    there = sum(count > 0 for count in before)
    emptied = [name for name, had, has in zip(classes, before, after, strict=True) if had and not has]
    if not emptied:
        return ""
    advice = f"Give --keep {_at_least(there / images)} or more: one image a class" if keep else "Give a larger --budget"
    return f"no image is chosen of {len(emptied)} of {len(classes)} classes, such as '{emptied[0]}': students cannot learn them. {advice}"


def thin_in_words(classes: Sequence[str], before: Sequence[int], after: Sequence[int], *, keep: bool) -> str:
    """What is said of classes of which fewer than THIN images are chosen."""
    thin = [place for place, count in enumerate(after) if 0 < count < THIN]
    if not thin:
        return ""
    few = min(thin, key=lambda place: after[place])
    if all(before[place] < THIN for place in thin):
        advice = "The reference has no more of them: index a larger one, or leave them out of the target"
    else:
        advice = "Give a larger --keep" if keep else "Give a larger --budget"
    return (
        f"fewer than {THIN} images are chosen of {len(thin)} of {len(classes)} classes, such as {after[few]} of '{classes[few]}': "
        f"students learn little of them. {advice}"
    )


def _unused_budget(draft: Draft, budget: int) -> str:
    whole = draft.choice.whole
    if whole is None or whole >= budget:
        return ""
    return (
        f"the labels of all {len(draft.labels)} images take about {whole} of the {budget} bytes, so a larger budget changes "
        "nothing. Give a smaller --budget, or index more images"
    )


def _at_least(share: float) -> str:
    """A share as a percentage, rounded up to two digits."""
    digits = 1 - math.floor(math.log10(100 * share))
    return f"{math.ceil(100 * share * 10**digits - 1e-9) / 10**digits:.{max(digits, 0)}f}%"
