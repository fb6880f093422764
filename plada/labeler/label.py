"""The pseudo-labels that `plada select` chooses from: which images are shown to which teacher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice

import numpy as np

from plada.common.arrays import F16, F32, I64
from plada.common.cluster import LOCAL
from plada.common.progress import Report, Tracker
from plada.common.statistics import softmax
from plada.errors import DataError
from plada.labeler.embedded_target import EmbeddedTarget
from plada.labeler.linear_teacher import train_linear
from plada.labeler.passes import Passes, passes_over
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.rounds import MAX_LOGITS, ask_in_rounds
from plada.labeler.scan import KEEP_ALL, surest_rows
from plada.labeler.scores import SCORES
from plada.labeler.shortlist import MIN_DEPTH, Shortlist, with_leads, with_population
from plada.labeler.teacher import READ, SHOWN, VECTORS, reference_logits, vote
from plada.labeler.teachers import Ensemble
from plada.retrieval.embeddings import Vectors, held_or_read, hold, in_order
from plada.retrieval.index import Index

# Rows that the rule chooses of some pseudo-labels, whose embeddings are given.
ChooseRows = Callable[[PseudoLabels, Vectors], I64]
MAX_IMAGES = 2_000_000  # of a shortlist
SHARE = 0.05  # of the reference that a teacher which looks at pictures is shown, unless exhaustive
POOL = 20  # images that a rule looks at for each that it keeps; more labels than bytes hardly ever fit


@dataclass(frozen=True, slots=True)
class LabelledReference:
    """Pseudo-labels of what can be chosen, and `vectors`, which gives embeddings of positions. `looked_at` counts the images
    that the last teacher saw; the main axes of the embeddings are taken from the images at `axes_from` int64 [n]. `likely` are
    positions int64 [m] of a large reference whose embeddings are at hand: rules are judged on these; None: on all."""

    labels: PseudoLabels
    vectors: Vectors
    looked_at: int
    axes_from: I64
    likely: I64 | None = None


def label(
    index: Index,
    ensemble: Ensemble,
    embedded: EmbeddedTarget,
    *,
    exhaustive: bool,
    budget: int,
    seed: int,
    choose_rows: ChooseRows | None,
    report: Report,
    scores: Sequence[str] = tuple(SCORES),
    device: str | None = "cpu",
    engine: str = LOCAL,
) -> LabelledReference:
    """Let the teachers label the reference, for a file of at most `budget` bytes, by a rule that looks at `scores`. `engine` does the
    passes over all embeddings: this process, or a Ray cluster.

    Teachers that need no pixels see every embedding, and rules choose from every image. Those that look at pictures see everything if it is `exhaustive`; else
    they see the candidates that a linear teacher finds in one pass, and then what the rule chooses (`choose_rows`,
    plada.labeler.rounds), SHARE of the reference in all.

    Raises:
        DataError: bad logits, nothing that can be read. BudgetTooSmall: by `choose_rows`. As plada.labeler.passes.
    """
    with passes_over(index, engine, report) as passes:
        return _label(
            index, ensemble, embedded, passes, exhaustive=exhaustive, budget=budget, seed=seed, choose_rows=choose_rows,
            report=report, scores=scores, device=device,
        )  # fmt: skip


def _label(
    index: Index,
    ensemble: Ensemble,
    embedded: EmbeddedTarget,
    passes: Passes,
    *,
    exhaustive: bool,
    budget: int,
    seed: int,
    choose_rows: ChooseRows | None,
    report: Report,
    scores: Sequence[str],
    device: str | None,
) -> LabelledReference:
    teachers, first = ensemble.teachers, ensemble.teachers[0]
    classes, tracker = first.classes, Tracker("scan", index.readable, report)

    def scan(stage: str) -> Iterator[tuple[I64, F16]]:
        """One pass over the embeddings that tells how far it is."""
        own = Tracker(stage, index.readable, report)
        for where, some in index.scan():
            yield where, some
            own.advance(len(where))

    def held(positions: I64) -> Vectors:
        return hold(
            positions, index.dimension, lambda: passes.embeddings(positions, "read embeddings"), index.vectors,
            scratch=index.home / "cache",
        )  # fmt: skip

    if len(teachers) == 1 and first.head is not None:
        large = index.readable > KEEP_ALL and not exhaustive
        labels = passes.scores(first.head, scores if large else tuple(SCORES), "scan")
        if not large:
            return LabelledReference(labels, held(labels.positions), len(labels), labels.positions)
        likely = labels.positions[_likely_rows(labels, budget, tracker)]
        vectors = held_or_read(likely, held(likely), index.vectors)
        return LabelledReference(labels, vectors, len(labels), labels.positions, likely)
    if len(teachers) == 1 and first.needs == VECTORS:
        labels = pseudo_label(
            index.scan(), lambda vectors: first.ask(vectors, len(vectors)), classes=classes, advance=tracker.advance
        )
        return LabelledReference(labels, held(labels.positions), len(labels), labels.positions)
    if all(teacher.needs_no_pixels for teacher in teachers):
        positions = np.concatenate([where for where, _ in scan("scan")])
        vectors = held(positions)
        # What neither memory nor the disk holds is read in one pass, never row by row.
        in_turn = vectors if vectors != index.vectors else in_order(index.scan())
        labels = pseudo_label(
            joint_blocks(index, ensemble, positions, in_turn, report), lambda logits: logits, classes=classes
        )
        return LabelledReference(labels, vectors, len(labels), positions)

    proxy = next((each for each in teachers if each.head is not None and each.needs == VECTORS), None)
    head = (proxy or train_linear(index, classes, embedded, seed, report, device=device)[0]).head
    assert head is not None
    if exhaustive:
        everything = passes.scores(head, (), "scan")
        shortlist = Shortlist(everything.positions, everything.counts(), len(everything))
    else:
        shortlist = passes.shortlist(head, SHARE / 2 if choose_rows is not None else SHARE, "scan")
    if choose_rows is None or exhaustive:
        vectors = held(shortlist.positions)
        shown = joint_blocks(index, ensemble, shortlist.positions, vectors, report)
        labels = pseudo_label(shown, lambda logits: logits, classes=classes)
        labels = with_leads(shortlist, labels, lambda positions: head.logits(vectors(positions)))
        return LabelledReference(labels, vectors, len(labels), shortlist.positions)
    images = min(POOL * budget, MAX_IMAGES, MAX_LOGITS // classes, index.readable * classes)
    candidates = passes.surest(head, max(MIN_DEPTH, images // classes), "candidates").positions
    axes_from = np.union1d(candidates, shortlist.positions)
    vectors = held(axes_from)
    labels = ask_in_rounds(
        shortlist, candidates, vectors=vectors, linear=head,
        choose_rows=lambda labels: choose_rows(labels, vectors),
        ask=lambda positions: joint_blocks(index, ensemble, positions, vectors, report),
        max_images=max(int(SHARE * index.readable), len(shortlist.positions)),
    )  # fmt: skip
    return LabelledReference(with_population(shortlist, labels), vectors, len(labels), axes_from)


def _likely_rows(labels: PseudoLabels, budget: int, tracker: Tracker) -> I64:
    """Rows that rules most probably choose from, rising: the largest margins of each class, and the ends of the order by
    energy where that is known."""
    tracker.say("sorting scores")
    parts = [surest_rows(labels, max(MIN_DEPTH, min(POOL * budget, MAX_IMAGES) // labels.classes))]
    if "energy" in labels.scores:
        order = np.argsort(-labels.scores["energy"], kind="stable")
        ends = min(budget, MAX_IMAGES // POOL)
        parts += [order[:ends], order[-ends:]]
    return np.unique(np.concatenate(parts))


def joint_blocks(
    index: Index, ensemble: Ensemble, positions: I64, vectors: Vectors, report: Report
) -> Iterator[tuple[I64, F32]]:
    """Block by block, (positions int64 [m], logits float32 [m, c]) of the images, of those at rising `positions`, that every
    teacher could answer for; several teachers are put to the vote. Memory holds one block of each teacher's logits.

    Raises:
        DataError: there is none; bad logits.
    """
    answers = [reference_logits(teacher, index, positions, vectors, report) for teacher in ensemble.teachers]
    images = 0
    for start in range(0, len(positions), READ):
        asked = min(READ, len(positions) - start)
        blocks = [
            list(islice(each, 1 if teacher.needs_no_pixels else -(-asked // SHOWN)))
            for teacher, each in zip(ensemble.teachers, answers, strict=True)
        ]
        where = [np.concatenate([block[0] for block in each]) for each in blocks]
        common = reduce(np.intersect1d, where)
        if not len(common):
            continue
        logits = [
            np.concatenate([block[1] for block in each])[np.searchsorted(seen, common)]
            for each, seen in zip(blocks, where, strict=True)
        ]
        images += len(common)
        temperatures = [teacher.temperature for teacher in ensemble.teachers]
        yield common, logits[0] if len(logits) == 1 else vote(logits, temperatures, ensemble.vote)
    for each in answers:
        next(each, None)  # so that each says that it is done
    if not images:
        raise DataError("teacher: none of the candidates could be read")


def joint_logits(index: Index, ensemble: Ensemble, positions: I64, vectors: Vectors, report: Report) -> tuple[I64, F32]:
    """(positions int64 [n], logits float32 [n, c]): all blocks of `joint_blocks` together."""
    blocks = list(joint_blocks(index, ensemble, positions, vectors, report))
    return np.concatenate([where for where, _ in blocks]), np.concatenate([logits for _, logits in blocks])


def joint_probabilities(index: Index, ensemble: Ensemble, positions: I64, vectors: Vectors, report: Report) -> F32:
    """Calibrated probabilities float32 [n, classes] of the images at rising `positions` int64 [n].

    Raises:
        DataError: an image can no longer be read; bad logits.
    """
    readable, logits = joint_logits(index, ensemble, positions, vectors, report)
    if len(readable) != len(positions):
        gone = int(np.setdiff1d(positions, readable)[0])
        raise DataError(f"index '{index.name}': image {gone} can no longer be read. Look at the reference")
    teachers = ensemble.teachers
    return softmax(logits, teachers[0].temperature if len(teachers) == 1 else 1.0)
