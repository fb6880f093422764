"""Rounds of questions: an expensive teacher is shown what a rule would choose, until it has seen all of it.

A rule that looks at the target's images takes few of many candidates. A shortlist by a linear teacher's leads holds less than
half of what the rule would choose if the expensive teacher had labelled everything. So the labels of images that it has not
seen are guessed, the rule chooses, and the teacher is asked about the choice, until no label in the choice is a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32, I64
from plada.common.statistics import class_ranks
from plada.labeler.pseudo_labels import PseudoLabels
from plada.labeler.scores import SCORES
from plada.labeler.shortlist import Shortlist, label_leads, two_best

# Rising positions -> those that could be read, and the teacher's logits [m, classes] of them.
AskTeacher = Callable[[I64], tuple[I64, F32]]
MAX_LOGITS = 1 << 27  # numbers of logits of all candidates that are held: 0.5 GB
_ROUNDS = 20
_EASE = 0.003  # of the ridge, in mean squared lengths: guesses were right most often (docs/log.md)
_LEARNT = 20_000  # images that guesses are learnt from at most
_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Guess:
    """Guesses the expensive teacher's logits of an image from its embedding and the linear teacher's logits: a ridge
    regression on what the teacher has said of others."""

    weight: F32  # [d + classes, classes]
    bias: F32  # [classes]
    mean: F32  # [d + classes]

    def __call__(self, vectors: npt.NDArray[np.floating], logits: F32) -> F32:
        """Logits float32 [n, classes] of embeddings [n, d] with the linear teacher's logits [n, classes]."""
        return np.asarray((_joined(vectors, logits) - self.mean) @ self.weight + self.bias, np.float32)


def fit_guess(vectors: npt.NDArray[np.floating], logits: F32, said: F32) -> Guess:
    """Learn from embeddings [n, d], the linear teacher's logits [n, classes] and the expensive teacher's `said` [n, classes]."""
    step = -(-len(said) // _LEARNT)
    points, wanted = _joined(vectors[::step], logits[::step]).astype(np.float64), said[::step].astype(np.float64)
    mean, bias = points.mean(axis=0), wanted.mean(axis=0)
    centred = points - mean
    # Embeddings and logits have other units: each part is made as long as the other, so that one ridge serves both.
    scale = np.ones(centred.shape[1])
    for part in (slice(None, vectors.shape[1]), slice(vectors.shape[1], None)):
        scale[part] = 1 / max(float(np.sqrt((centred[:, part] ** 2).sum(axis=1).mean())), 1e-9)
    centred *= scale
    ridge = centred.T @ centred + _EASE * len(centred) * np.eye(centred.shape[1])
    weight = np.linalg.solve(ridge, centred.T @ (wanted - bias)) * scale[:, None]
    return Guess(weight.astype(np.float32), bias.astype(np.float32), mean.astype(np.float32))


def ask_in_rounds(
    shortlist: Shortlist,
    known: tuple[I64, F32],
    candidates: I64,
    *,
    vectors: Callable[[I64], npt.NDArray[np.floating]],
    linear: Callable[[npt.NDArray[np.floating]], F32],
    choose_rows: Callable[[PseudoLabels], I64],
    ask: AskTeacher,
    max_images: int,
) -> tuple[Shortlist, tuple[I64, F32]]:
    """(shortlist, positions and logits of all that the teacher labelled) after rounds of questions.

    `known` is what the teacher said of the shortlist so far (positions, logits). `choose_rows` gives the rows that the rule
    chooses of pseudo-labels of the `candidates` int64 [n] (rising) and the shortlist together; what it chooses and the teacher
    has not seen is asked about. The teacher is shown at most `max_images` in all, or half as many again as are chosen.
    `linear` gives the linear teacher's logits of `vectors`. Images that cannot be read are no candidates any more.

    Raises:
        DataError: bad logits.
    """
    positions = np.union1d(candidates, shortlist.positions)
    first = np.concatenate([linear(vectors(part)) for part in _parts(positions)])
    logits, labelled = first.copy(), np.zeros(len(positions), np.bool_)
    unreadable = np.zeros(len(positions), np.bool_)

    def enter(shown: I64, answers: tuple[I64, F32]) -> None:
        unreadable[np.searchsorted(positions, np.setdiff1d(shown, answers[0]))] = True
        rows = np.searchsorted(positions, answers[0])
        logits[rows], labelled[rows] = answers[1], True

    enter(shortlist.positions, known)
    best, second = two_best(first)
    for _ in range(_ROUNDS):
        guess = fit_guess(vectors(positions[labelled]), first[labelled], logits[labelled])
        for part in _parts(np.flatnonzero(~labelled)):
            logits[part] = guess(vectors(positions[part]), first[part])
        there = np.flatnonzero(~unreadable)
        labels = logits[there].argmax(axis=1)
        scores = {name: score(logits[there]) for name, score in SCORES.items()}
        scores["margin"] = label_leads(first[there], labels, best[there], second[there])
        chosen = there[choose_rows(PseudoLabels(positions[there], labels, scores, first.shape[1]))]
        room = max(max_images, len(chosen) * 3 // 2) - int((labelled | unreadable).sum())
        fresh = chosen[~labelled[chosen]]
        # One of each class a turn: where not all can be asked about, no class goes without.
        turns = np.argsort(class_ranks(logits[fresh].argmax(axis=1)), kind="stable")
        fresh = fresh[turns[: max(0, room)]]
        if not len(fresh):
            break
        shown = np.sort(positions[fresh])
        enter(shown, ask(shown))
    asked = np.flatnonzero(labelled | unreadable)
    asked_about = Shortlist(positions[asked], first[asked], shortlist.counts, shortlist.images)
    return asked_about, (positions[labelled], logits[labelled])


def _joined(vectors: npt.NDArray[np.floating], logits: F32) -> F32:
    return np.hstack([np.asarray(vectors, np.float32), logits])


def _parts(rows: I64) -> list[I64]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
