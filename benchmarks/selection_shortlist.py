"""How much of what an exhaustive pass of a fine-tuned teacher would choose is found when it is shown 5 % of the reference.

    python benchmarks/selection_shortlist.py --index NAME --weights FILE --keep FOLDER TARGET... [--budget 1000] [--far chest_xray]

The teacher's logits for the whole reference are made once and kept (benchmarks/selection_teachers.py). For each rule the images
are chosen from what it says of everything; then it is shown (a) the images with the largest leads of a linear teacher, all of
the share, and (b) half of the share of these, and then, for rules that look at the target, what the rule chooses, in rounds
(plada.labeler.rounds), as `plada select` does. `held` is the share of the exhaustive choice that the teacher was shown, `found`
the share that is chosen again at the same number of images. Far-off targets have twice the share. The speed-up is in images looked
at, and in processor time: the whole pass against its share of what was looked at, the linear pass and the rounds.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import plada
from benchmarks.document import machine, write_section
from benchmarks.selection_teachers import open_options, processor_seconds, teacher_answers
from plada.api.payload import sender_for
from plada.common.files import home_directory
from plada.common.progress import silent
from plada.common.statistics import accuracy
from plada.labeler.embedded_target import embed_target
from plada.labeler.label import SHARE
from plada.labeler.linear_teacher import train_linear
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.rounds import ask_in_rounds
from plada.labeler.shortlist import Shortlist, find_shortlist, with_leads
from plada.networks.linear_head import STUDENT_PENALTY, fit_head
from plada.payload.payload import Payload
from plada.retrieval.index import Index
from plada.selection.budget import fill_budget
from plada.selection.compose import header_of
from plada.selection.prepare import RuleInputs, prepare
from plada.selection.rules.registry import RULES

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
ORDERED, LOOKING = ("balanced", "paper"), ("herd-even",)


class Course:
    """One target: the linear teacher, the fine-tuned one's answers, embeddings of everything in memory."""

    def __init__(self, index: Index, target: str, options: Any) -> None:
        self.index, home = index, home_directory()
        self.task, said = teacher_answers(
            index, target, options.keep, weights=options.weights, image_size=options.image_size, seed=options.seed
        )
        self.said, self.seconds = said.reference, said.seconds
        assert self.task.test is not None
        cache = home / "cache" / "embeddings"
        self.embedded = embed_target(index.lazy_encoder(), self.task, report=silent, cache=cache)
        assert self.embedded.test is not None
        self.test = self.embedded.test
        self.teacher = 100 * accuracy(said.test, self.task.test.labels)
        self.proxy, _, _ = train_linear(index, len(self.task.classes), self.embedded, options.seed)
        self.vectors = np.concatenate([vectors for _, vectors in index.scan()])
        self.everything = np.arange(len(self.vectors))
        assert self.proxy.head is not None
        self.linear = self.proxy.head
        self.first = self.linear.logits(self.vectors)
        self.full = self.by_leads(len(self.task.classes))
        self.prepared = self._prepare(self.labels(self.full, self.everything))

    def _prepare(self, labels: PseudoLabels) -> RuleInputs:
        return prepare(
            labels, lambda positions: self.vectors[positions], self.index.mean, self.embedded,
            axes_from=self.everything,
        )  # fmt: skip

    def by_leads(self, share: float) -> Shortlist:
        """The largest leads of the linear teacher."""
        return find_shortlist(
            [(self.everything, self.first)], lambda logits: logits, classes=len(self.task.classes),
            images=len(self.everything), share=share,
        )  # fmt: skip

    def labels(self, shortlist: Shortlist, positions: I64) -> PseudoLabels:
        """Pseudo-labels of what the fine-tuned teacher was shown."""
        said = pseudo_label([(positions, self.said[positions])], lambda x: x, classes=len(self.task.classes))
        return with_leads(shortlist, said, lambda some: self.first[some])

    def chosen(self, labels: PseudoLabels, rule: str, k: int) -> I64:
        """Positions of k images."""
        rows = RULES[rule].prepare(labels, self._prepare(labels).context)(k).rows
        return labels.positions[rows]

    def fitting(self, labels: PseudoLabels, rule: str, budget: int) -> int:
        """Images that fit into a budget, without class names, for clients that have the manifest."""
        names = tuple(str(number) for number in range(labels.classes))
        head, choose = header_of(self.index), RULES[rule].prepare(labels, self.prepared.context)
        sender = sender_for(head, home=self.index.home)

        def make(k: int) -> tuple[None, int]:
            rows = np.sort(choose(k).rows)
            payload = Payload(
                labels.positions[rows], labels.labels[rows], names, head.reference, head.key_id, head.content_id
            )
            return None, sender.size(payload)

        return fill_budget(
            make, budget=budget, min_images=labels.classes, max_images=len(labels), classes=labels.classes
        ).k  # fmt: skip

    def student(self, positions: I64) -> float:
        """Test accuracy in % of a linear student."""
        head = fit_head(
            self.vectors[positions].astype(np.float32), self.said[positions].argmax(axis=1),
            classes=len(self.task.classes), mean=self.index.mean, penalty=STUDENT_PENALTY,
        )  # fmt: skip
        return 100 * accuracy(head.logits(self.test.vectors), self.test.labels)

    def shown(self, rule: str, k: int, share: float, *, rounds: bool) -> PseudoLabels:
        """What is known after the teacher has been shown its share."""
        shortlist = self.by_leads(share / 2 if rounds else share)
        if not rounds:
            return self.labels(shortlist, shortlist.positions)
        context = self.prepared.context
        return ask_in_rounds(
            shortlist, self.everything, vectors=lambda rows: self.vectors[rows], linear=self.linear,
            choose_rows=lambda labels: RULES[rule].prepare(labels, context)(k).rows,
            ask=lambda rows: iter([(rows, self.said[rows])]), max_images=int(share * len(self.everything)),
        )  # fmt: skip


def measure(course: Course, budget: int, share: float) -> list[dict[str, Any]]:
    """A row for each rule and way."""
    rows = []
    full = course.prepared.labels
    images = len(course.everything)
    for rule in (*ORDERED, *LOOKING):
        k = course.fitting(full, rule, budget)
        everything = course.chosen(full, rule, k)
        wanted = set(everything.tolist())
        for rounds in (False, True) if rule in LOOKING else (False,):
            began = processor_seconds()
            labels = course.shown(rule, k, share, rounds=rounds)
            spent = processor_seconds() - began
            some = course.chosen(labels, rule, k)
            looked = len(labels)
            rows.append(
                {
                    "target": course.task.name, "rule": rule, "images": k, "shown": looked / images,
                    "way": "leads, then rounds" if rounds else "leads",
                    "held": len(wanted & set(labels.positions.tolist())) / k,
                    "found": len(wanted & set(some.tolist())) / k,
                    "student": course.student(some), "student_exhaustive": course.student(everything),
                    "fewer": images / looked,
                    "faster": course.seconds / (course.seconds * looked / images + spent),
                    "agreement": float((course.first.argmax(axis=1) == course.said.argmax(axis=1)).mean()),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    open_options(parser)
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--far", default="chest_xray", help="targets far off the reference, comma-separated")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    index = plada.open_index(options.index, home=options.index_home)
    rows: list[dict[str, Any]] = []
    ceilings = []
    for target in options.targets:
        course = Course(index, target, options)
        ceilings.append(f"{course.task.name} {course.teacher:.1f}")
        rows += measure(course, options.budget, SHARE * (2 if course.task.name in options.far.split(",") else 1))
    lines = [
        "## A fine-tuned teacher on a shortlist",
        "",
        f"`python benchmarks/selection_shortlist.py --index tiny ...`, {machine()}. mobilenetv2_100 fine-tuned at {options.image_size} px, "
        f"{options.budget} bytes.",
        f"Teacher, test accuracy in %: {', '.join(ceilings)}.",
        "",
        "| target | rule | images | way | shown | held | found | student (of everything) | fewer images | faster |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['target']} | {row['rule']} | {row['images']} | {row['way']} | {row['shown']:.1%} | {row['held']:.1%} | "
            f"{row['found']:.1%} | {row['student']:.1f} ({row['student_exhaustive']:.1f}) | {row['fewer']:.0f} x | {row['faster']:.1f} x |"
        )
    write_section(options.out, "selection-shortlist", "\n".join(lines))
    best = [row for row in rows if row["rule"] not in LOOKING or row["way"] != "leads"]
    named_figures = {
        "shortlist_recall": round(float(np.mean([row["held"] for row in best if row["rule"] != "paper"])), 4),
        "shortlist_found": round(float(np.mean([row["found"] for row in best if row["rule"] != "paper"])), 4),
    }
    print(json.dumps(named_figures) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
