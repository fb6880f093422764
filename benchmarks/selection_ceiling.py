"""Does a better teacher lift the ceiling? Linear, fine-tuned, and both voting, at budgets where all rules meet.

    python benchmarks/selection_ceiling.py --index NAME --weights FILE --keep FOLDER TARGET... [--image-size 96] \
        [--budgets 5000,10000] [--out docs/benchmarks.md] [--json]

The fine-tuned teacher has seen the whole reference (benchmarks/selection_teachers.py keeps what it said). Rule herd-even, in the
order of the linear teacher's leads, as `plada select --exhaustive` has it; linear student on the index's embeddings; whole
files for clients that have the manifest, without class names. Accuracies on the test images, in %.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import plada
from benchmarks.document import conclude, machine
from benchmarks.selection_shortlist import Course
from benchmarks.selection_teachers import Answers, open_options, teacher_answers
from plada.common.statistics import accuracy
from plada.labeler.calibration import fit_temperature
from plada.labeler.linear_teacher import train_linear
from plada.labeler.teacher import vote
from plada.selection.rules.registry import DEFAULT

F32 = npt.NDArray[np.float32]


def voices(course: Course, said: Answers, seed: int) -> dict[str, tuple[F32, F32]]:
    """For each teacher (logits of the reference, logits of the test images)."""
    _, _, held_out = train_linear(course.index, len(course.task.classes), course.embedded, seed)
    temperatures = [
        fit_temperature(held_out.logits, course.embedded.known.labels[held_out.rows]),
        fit_temperature(said.validation, course.task.validation.labels),
    ]
    tested = course.proxy.logits(course.test.vectors)
    return {
        "linear": (course.first, tested),
        "fine-tuned": (said.reference, said.test),
        "both": (vote([course.first, said.reference], temperatures), vote([tested, said.test], temperatures)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    open_options(parser)
    parser.add_argument("--budgets", default="5000,10000")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(image_size=96)
    options: Any = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    index = plada.open_index(options.index, home=options.index_home)
    budgets = [int(budget) for budget in options.budgets.split(",")]
    rows, named = [], {}
    for target in options.targets:
        course = Course(index, target, options)
        _, said = teacher_answers(
            index, target, options.keep, weights=options.weights, image_size=options.image_size, seed=options.seed
        )
        shortlist = course.full
        for name, (reference, tested) in voices(course, said, options.seed).items():
            course.said = reference
            labels = course.labels(shortlist, course.everything)
            students = []
            for budget in budgets:
                k = course.fitting(labels, DEFAULT, budget)
                students.append(course.student(course.chosen(labels, DEFAULT, k)))
                named[f"{course.task.name}_{name}_{budget}"] = round(students[-1], 2)
            teacher = 100 * accuracy(tested, course.test.labels)
            rows.append(
                f"| {course.task.name} | {name} | {teacher:.1f} | " + " | ".join(f"{s:.1f}" for s in students) + " |"
            )
            print(rows[-1], flush=True)
    lines = [
        "## A better teacher",
        "",
        f"`python benchmarks/selection_ceiling.py --index tiny ...`, {machine()}. mobilenetv2_100 fine-tuned at {options.image_size} px, rule {DEFAULT},",
        f"linear student, seed {options.seed}, test accuracy in %.",
        "",
        "| target | teacher | teacher's own | " + " | ".join(f"{budget} bytes" for budget in budgets) + " |",
        "| --- " * (3 + len(budgets)) + "|",
        *rows,
    ]
    conclude(options.out, "selection-ceiling", lines, named, as_json=options.json)


if __name__ == "__main__":
    main()
