"""Rounds of questions: an expensive teacher is shown what a rule would choose, until it has seen all of it.

A rule that looks at the target's images takes few of many candidates. A shortlist by a linear teacher's leads holds less than
half of what the rule would choose if the expensive teacher had labelled everything. So the labels of images that it has not
seen are guessed, the rule chooses, and the teacher is asked about the choice, until no label in the choice is a guess.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.statistics import class_ranks
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import SCORES
from plada.labeler.shortlist import Shortlist, label_leads, two_best
from plada.networks.linear_head import Head
from plada.retrieval.embeddings import Vectors

# Rising positions -> blocks of (those that could be read, the teacher's logits [m, classes] of them).
AskTeacher = Callable[[I64], Iterator[tuple[I64, F32]]]
MAX_LOGITS = 1 << 27  # that are guessed in a round, and that are held to learn from: 0.5 GB
_ROUNDS = 20
_EASE = 0.003  # of the ridge, in mean squared lengths: guesses were right most often (docs/log.md)
_LEARNT = 20_000  # images that guesses are learnt from at most
_BLOCK = 16_384  # images that are looked at together, of many classes fewer
_NUMBERS = 1 << 25  # logits that are looked at together
_LEAST = 1024  # images that are looked at together at least


@dataclass(frozen=True, slots=True)
class Guess:
    """Guesses the expensive teacher's logits of an image from its embedding: a ridge regression on what the teacher has said of
    others."""

    weight: F32  # [d, classes]
    bias: F32  # [classes]
    mean: F32  # [d]

    def __call__(self, vectors: npt.NDArray[np.floating]) -> F32:
        """Logits float32 [n, classes] of embeddings [n, d]."""
        return np.asarray((np.asarray(vectors, np.float32) - self.mean) @ self.weight + self.bias, np.float32)


def fit_guess(vectors: npt.NDArray[np.floating], linear: F32, said: F32) -> Guess:
    """Learn from embeddings [n, d], the linear teacher's weights `linear` [d, classes] and the expensive teacher's logits `said`
    [n, classes].

    It is a ridge regression on embeddings and the linear teacher's logits. Embeddings and logits have other units: each part is
    made as long as the other, so that one ridge serves both. As the logits are linear in the embedding, it is the same as a
    ridge regression on the embedding times a root of `metric`, which has d columns instead of d + classes.
    """
    points = np.asarray(vectors, np.float64)
    mean, bias = points.mean(axis=0), said.mean(axis=0, dtype=np.float64)
    points = points - mean
    weights = np.asarray(linear, np.float64)
    spread, product = points.T @ points, weights @ weights.T
    lengths = np.trace(spread) / len(points), (spread * product).sum() / len(points)
    own, theirs = (1 / max(float(length), 1e-18) for length in lengths)
    metric = own * np.eye(len(weights)) + theirs * product
    root = np.linalg.cholesky(metric)
    together = sum(
        points[start : start + _LEAST].T @ (said[start : start + _LEAST] - bias)
        for start in range(0, len(said), _LEAST)
    )
    ridge = root.T @ spread @ root + _EASE * len(points) * np.eye(len(weights))
    weight = root @ np.linalg.solve(ridge, root.T @ together)
    return Guess(weight.astype(np.float32), bias.astype(np.float32), mean.astype(np.float32))


class _Answers:
    """What is known of all candidates: labels and scores of each, and some logits of the expensive teacher to learn from."""

    def __init__(self, positions: I64, vectors: Vectors, linear: Head) -> None:
        self.positions, self._vectors, self._linear = positions, vectors, linear
        self.labels = np.zeros(len(positions), np.int64)
        self.scores = {name: np.zeros(len(positions), np.float32) for name in SCORES}
        self.labelled, self.unreadable = (np.zeros(len(positions), np.bool_) for _ in range(2))
        # Guesses are learnt from the labelled images whose turn comes first.
        self._turns = np.random.default_rng(0).permutation(len(positions))
        most = min(len(positions), _LEARNT, MAX_LOGITS // len(linear.bias))
        self._sample, self._said = np.empty(most, np.int64), np.empty((most, len(linear.bias)), np.float32)
        self._sampled = 0

    def ask(self, rows: I64, ask: AskTeacher) -> None:
        """Ask the expensive teacher about some candidates, by row."""
        self.unreadable[rows] = True
        for where, logits in ask(self.positions[rows]):
            read = np.searchsorted(self.positions, where)
            self.unreadable[read], self.labelled[read] = False, True
            for part in _parts(np.arange(len(read)), logits.shape[1]):
                some = read[part]
                self._enter(some, logits[part], self._linear.logits(self._vectors(self.positions[some])))
            self._learn(read, logits)

    def _learn(self, rows: I64, logits: F32) -> None:
        """Keep logits of some images to learn from: while there is room all, then those whose turn comes before one that is kept."""
        room = min(len(rows), len(self._sample) - self._sampled)
        self._sample[self._sampled : self._sampled + room] = rows[:room]
        self._said[self._sampled : self._sampled + room] = logits[:room]
        self._sampled += room
        rows, logits = rows[room:], logits[room:]
        if len(rows):
            order = np.argsort(self._turns[np.concatenate([self._sample, rows])])
            leaves, enters = (np.sort(each) for each in (order[len(self._sample) :], order[: len(self._sample)]))
            leaves, enters = leaves[leaves < len(self._sample)], enters[enters >= len(self._sample)] - len(self._sample)
            self._sample[leaves], self._said[leaves] = rows[enters], logits[enters]

    def guess(self) -> None:
        """Guess what the expensive teacher would say of the candidates that it has not seen."""
        learnt, place = np.unique(self._sample[: self._sampled], return_inverse=True)
        vectors = self._vectors(self.positions[learnt])[place]
        guess = fit_guess(vectors, self._linear.weight, self._said[: self._sampled])
        for rows in _parts(np.flatnonzero(~(self.labelled | self.unreadable)), len(self._linear.bias)):
            vectors = self._vectors(self.positions[rows])
            self._enter(rows, guess(vectors), self._linear.logits(vectors))

    def of(self, rows: I64, classes: int) -> PseudoLabels:
        """Pseudo-labels of some candidates."""
        scores = {name: values[rows] for name, values in self.scores.items()}
        return PseudoLabels(self.positions[rows], self.labels[rows], scores, classes)

    def _enter(self, rows: I64, logits: F32, linear: F32) -> None:
        self.labels[rows] = logits.argmax(axis=1)
        for name, score in SCORES.items():
            self.scores[name][rows] = score(logits)
        self.scores["margin"][rows] = label_leads(linear, self.labels[rows], *two_best(linear))


def ask_in_rounds(
    shortlist: Shortlist,
    candidates: I64,
    *,
    vectors: Vectors,
    linear: Head,
    choose_rows: Callable[[PseudoLabels], I64],
    ask: AskTeacher,
    max_images: int,
) -> PseudoLabels:
    """Labels of all images that the teacher could read, after rounds of questions: first the shortlist, then what the rule chooses.

    `choose_rows` gives the rows that the rule chooses of pseudo-labels of the `candidates` int64 [n] (rising) and the shortlist
    together; what it chooses and the teacher has not seen is asked about. The teacher is shown at most `max_images` in all, or
    half as many again as are chosen. `linear` is the linear teacher, of `vectors`. Images that cannot be read are no candidates
    any more. The score `margin` is the linear teacher's lead of the label. Memory holds labels and scores of all candidates, a
    block of logits, and MAX_LOGITS to learn from.

    Raises:
        DataError: bad logits; no image of a round can be read.
    """
    classes = len(linear.bias)
    known = _Answers(np.union1d(candidates, shortlist.positions), vectors, linear)
    known.ask(np.searchsorted(known.positions, shortlist.positions), ask)
    for _ in range(_ROUNDS):
        known.guess()
        there = np.flatnonzero(~known.unreadable)
        chosen = there[choose_rows(known.of(there, classes))]
        room = max(max_images, len(chosen) * 3 // 2) - int((known.labelled | known.unreadable).sum())
        fresh = chosen[~known.labelled[chosen]]
        # One of each class a turn: where not all can be asked about, no class goes without.
        turns = np.argsort(class_ranks(known.labels[fresh]), kind="stable")
        fresh = fresh[turns[: max(0, room)]]
        if not len(fresh):
            break
        known.ask(np.sort(fresh), ask)
    return known.of(np.flatnonzero(known.labelled), classes)


def _parts(rows: I64, classes: int) -> list[I64]:
    size = max(_LEAST, min(_BLOCK, _NUMBERS // classes))
    return [rows[start : start + size] for start in range(0, len(rows), size)]
