"""A scenario: one target under one seed, with teacher and pseudo-labels, from which every method starts.

Everything is based on the index's embeddings: the teacher is linear, whatever the students are. Each seed draws another
validation split and so trains another teacher.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plada.common.arrays import F32, I64
from plada.common.progress import silent
from plada.common.statistics import accuracy
from plada.errors import DataError, RequestError
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget, embed_target
from plada.labeler.label import label
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.teachers import Ensemble, TeacherSpec, teach
from plada.networks.linear_head import PENALTY, STUDENT_PENALTY, Head, fit_head
from plada.payload.coders.paper_coders import paper_bytes
from plada.payload.payload import Payload, parse_payload
from plada.payload.sender import Sender
from plada.retrieval.embeddings import Vectors, hold
from plada.retrieval.index import Index
from plada.selection.auto import RuleChoice, choose_rule
from plada.selection.prepare import JudgeSpec, RuleInputs, prepare
from plada.selection.rules.registry import DEFAULT, RULES
from plada.selection.rules.rule import Choose, Context
from plada.sources.registry import open_target
from plada.sources.targets.target import Target
from plada.trainer.payload_context import PayloadContext, find_shared_context

CLIENT_HAS = ("manifest", "pack")
STEPS = 120  # of a linear student's L-BFGS
_IMAGES_A_BYTE = 16  # of the budget: more never fit the paper's coder


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A target, its images as the index's encoder sees them, the teachers, and what they say of the reference; `vectors` gives
    the embeddings of positions."""

    target: Target
    embedded: EmbeddedTarget
    ensemble: Ensemble
    labels: PseudoLabels
    vectors: Vectors


def label_reference(
    index: Index,
    spec: str | Path,
    seed: int,
    *,
    home: Path,
    teacher: TeacherSpec | None = None,
    device: str | None = None,
) -> Labelled:
    """What a scenario starts from, with a linear teacher or the one that is given, which labels every image. `home` is where registered
    targets and cached embeddings and networks are.

    Raises:
        RequestError: a target without test images. Others as `plada.select` raises.
    """
    target = open_target(spec, home, seed=seed)
    if target.test is None:
        raise RequestError(f"target {target.name}: has no test images, and nothing can be compared without")
    embedded = embed_target(index.lazy_encoder(), target, report=silent, cache=home / "cache" / "embeddings")
    if teacher is not None:
        made = teach(index, target, embedded, teacher, cache=home / "cache" / "teachers", seed=seed, device=device)
        known = label(
            index,
            made,
            embedded,
            exhaustive=True,
            budget=len(index),
            seed=seed,
            choose_rows=None,
            report=silent,
            device=device,
        )
        return Labelled(target=target, embedded=embedded, ensemble=made, labels=known.labels, vectors=known.vectors)
    ensemble = teach(index, target, embedded, TeacherSpec(), seed=seed)
    labels = pseudo_label(index.scan(), ensemble.teachers[0].logits, classes=len(target.classes))
    vectors = hold(labels.positions, index.dimension, index.scan, index.vectors)
    return Labelled(target=target, embedded=embedded, ensemble=ensemble, labels=labels, vectors=vectors)


class Scenario:
    """Teacher, pseudo-labels and linear students of a target under `seed`, as `labelled` has them. `pack` is a pack's file."""

    def __init__(self, index: Index, labelled: Labelled, seed: int, *, pack: Path | None = None) -> None:
        self.index, self.seed, self.pack = index, seed, pack
        self._senders: dict[str, Sender] = {}
        self._sizes: dict[tuple[str, bytes], int] = {}
        self._files: dict[tuple[str, bytes], tuple[bytes, I64]] = {}
        self._choices: dict[str, Choose] = {}
        self.cache: dict[str, Any] = {}  # what methods compute once for all budgets
        self.target, self.embedded, self.labels, self.vectors = (
            labelled.target, labelled.embedded, labelled.labels, labelled.vectors,
        )  # fmt: skip
        self.classes = len(self.target.classes)
        self.penalty: float = labelled.ensemble.penalty or STUDENT_PENALTY
        self.teacher_accuracy = labelled.ensemble.report.accuracy or 0.0
        self._head = labelled.ensemble.teachers[0].head

    @cached_property
    def head(self) -> Head:
        """The linear teacher; of other teachers a head on the target's own images in its stead."""
        known = self.own_images
        return self._head or fit_head(
            known.vectors, known.labels, classes=self.classes, mean=self.index.mean, penalty=PENALTY
        )

    @property
    def own_images(self) -> EmbeddedSplit:
        """The target's training and validation images, which the server has."""
        return self.embedded.known

    @cached_property
    def inputs(self) -> RuleInputs:
        """What rules choose by, and what `auto` judges them on."""
        return prepare(
            self.labels,
            self.vectors,
            self.index.mean,
            self.embedded,
            judge=JudgeSpec(own_teachers=self._head is not None),
            seed=self.seed,
        )

    @property
    def context(self) -> Context:
        """What rules choose by."""
        return self.inputs.context

    @property
    def min_images(self) -> int:
        """Classes that the teacher finds in the reference: at least one image of each is sent."""
        return int((self.labels.counts() > 0).sum())

    def choices(self, rule: str) -> Choose:
        """A rule, prepared once."""
        if rule not in self._choices:
            self._choices[rule] = RULES[rule].prepare(self.labels, self.context)
        return self._choices[rule]

    def payload(self, rows: I64, classes: tuple[str, ...] | None = None) -> Payload:
        """The payload of some rows of the pseudo-labels; without class names unless `classes` are given."""
        order, info = np.sort(rows), self.index.info
        names = classes or tuple(str(number) for number in range(self.classes))
        key, content = (bytes.fromhex(info[name])[:8] for name in ("key_id", "content_id"))
        return Payload(self.labels.positions[order], self.labels.labels[order], names, len(self.index), key, content)

    def sender(self, has: str) -> Sender:
        """Writes files for clients that have the manifest, or the pack too."""
        if has not in self._senders:
            head = self.payload(np.arange(1)).header()
            self._senders[has] = Sender(
                shared=find_shared_context(head, PayloadContext(home=self.index.home, pack=self.pack), has)
            )
        return self._senders[has]

    def size(self, has: str, rows: I64) -> int:
        """Bytes of the whole file. They are remembered: a pack's coder takes a second, and rules may choose the same rows."""
        ordered = np.sort(rows)
        key = has, ordered.tobytes()
        if key not in self._sizes:
            self._sizes[key] = self.sender(has).size(self.payload(ordered))
        return self._sizes[key]

    def file(self, has: str, rows: I64) -> tuple[bytes, I64]:
        """(the whole file, rows of the pseudo-labels that it decodes to), remembered too."""
        ordered = np.sort(rows)
        key = has, ordered.tobytes()
        if key not in self._files:
            sender = self.sender(has)
            data = sender.encode(self.payload(ordered))
            read = parse_payload(data, shared=sender.shared).payload
            arrived = np.searchsorted(self.labels.positions, read.positions)
            if not np.array_equal(self.labels.labels[arrived], read.labels):
                raise DataError(f"target {self.target.name}: a file of {len(data)} bytes came back with other labels")
            self._files[key] = data, arrived
        return self._files[key]

    def auto(self, budget: int, has: str, *, only: str | None = None, default: str = DEFAULT) -> RuleChoice:
        """`auto` (or the rule `only`) as `plada select` runs it, for whole files in `budget` bytes and clients that
        have the manifest or the pack. It sees no test image. Sizes for the manifest, which are cheaper, guide the
        search with a pack. Raises BudgetTooSmall: not one label a class fits."""
        return choose_rule(
            self.labels,
            self.context,
            self.inputs.judge if only is None else None,  # one rule alone is not compared
            lambda chosen: self.size(has, chosen.rows),
            approximate_size=lambda chosen: self.size("manifest", chosen.rows),
            budget=budget,
            min_images=self.min_images,
            only=only,
            default=default,
        )

    def fit_paper_coder(self, rule: str, budget: int) -> tuple[I64, int] | None:
        """(rows, bytes) of the largest selection of a rule that fits `budget` under the paper's coder; None where nothing fits."""
        choose = self.choices(rule)
        return largest_fitting(lambda k: choose(k).rows, self.labels, len(self.index), budget, self.classes)

    def fit_student(self, rows: I64) -> Head:
        """A linear student of some rows of the pseudo-labels."""
        return fit_head(
            self.vectors(self.labels.positions[rows]).astype(np.float32), self.labels.labels[rows],
            classes=self.classes, mean=self.index.mean, penalty=STUDENT_PENALTY, steps=STEPS,
        )  # fmt: skip

    def accuracy_of(self, logits: Callable[[F32], F32]) -> float:
        """Accuracy on the test images of a function from embeddings [n, d] to logits [n, classes]."""
        assert self.embedded.test is not None
        return accuracy(logits(self.embedded.test.vectors), self.embedded.test.labels)


def largest_fitting(
    choose: Callable[[int], I64], labels: PseudoLabels, images: int, budget: int, classes: int
) -> tuple[I64, int] | None:
    """(rows, bytes) of the largest selection that fits `budget` under the paper's coder; None where nothing fits."""
    low, high = 1, min(len(labels), budget * _IMAGES_A_BYTE)
    best: tuple[I64, int] | None = None
    while low <= high:
        middle = (low + high) // 2
        rows = choose(middle)
        order = np.sort(rows)
        size = paper_bytes(labels.positions[order], labels.labels[order], images, classes)
        if size <= budget:
            best, low = (rows, size), middle + 1
        else:
            high = middle - 1
    return best
