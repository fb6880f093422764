"""Rules side by side: what a linear student of each selection reaches on validation images, at equal bytes.

    python benchmarks/rules.py --index NAME TARGET... [--budgets 500,1000,2000] [--seeds 3] [--out docs/rules.md]

A seed draws another validation split from the target's training images; neither teacher nor rule sees it. Test images are not
looked at. Teacher and student stand on the index's embeddings, so the teacher is the ceiling.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

import plada
from benchmarks.document import spread, write_section
from plada.common.files import home_directory
from plada.common.progress import silent
from plada.common.statistics import accuracy
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget, embed_target
from plada.labeler.linear_teacher import train_linear
from plada.labeler.pseudo_labels import pseudo_label
from plada.networks.linear_head import STUDENT_PENALTY, fit_head
from plada.payload.payload import Payload
from plada.retrieval.index import Index
from plada.selection.budget import fill_budget
from plada.selection.compose import header_of
from plada.selection.prepare import prepare
from plada.selection.rules.registry import RULES
from plada.sources.registry import open_target
from plada.sources.targets.target import Target, set_aside

Results = dict[tuple[int, str, str], list[float]]


def measure(
    index: Index, target: Target, whole: EmbeddedSplit, budgets: list[int], rules: list[str], seed: int, found: Results
) -> float:
    """Add every rule's and budget's validation accuracy (in %) to `found`; returns the teacher's."""
    classes = len(target.classes)
    everything = np.concatenate([vectors for _, vectors in index.scan()])  # every image of this reference is readable
    split = type(target.train)(target.train.collection, np.arange(len(whole.labels)), whole.labels)
    train_rows, held_rows = (part.positions for part in set_aside(split, classes, seed=seed))
    train, held, none = (
        EmbeddedSplit(whole.vectors[rows], whole.labels[rows], 0) for rows in (train_rows, held_rows, held_rows[:0])
    )
    embedded = EmbeddedTarget(train, none)
    teacher, _, _ = train_linear(index, classes, embedded, seed)
    labels = pseudo_label(index.scan(), teacher.logits, classes=classes)
    context = prepare(labels, lambda positions: everything[positions], index.mean, embedded, seed=seed).context
    header = header_of(index)
    for name in rules:
        choose = RULES[name].prepare(labels, context)

        def select(k: int) -> tuple[Payload, int]:
            rows = np.sort(choose(k).rows)  # noqa: B023
            payload = Payload(
                labels.positions[rows],
                labels.labels[rows],
                target.classes,
                len(index),
                header.key_id,
                header.content_id,
            )
            return payload, max(payload.sizes()[payload.coder()], 1)

        least = int((labels.counts() > 0).sum())
        for budget in budgets:
            payload = fill_budget(
                select, budget=budget, min_images=least, max_images=len(labels), classes=least
            ).selection
            vectors = everything[payload.positions].astype(np.float32)
            head = fit_head(vectors, payload.labels, classes=classes, mean=index.mean, penalty=STUDENT_PENALTY)
            score = 100 * accuracy(head.logits(held.vectors), held.labels)
            found.setdefault((budget, name, target.name), []).append(score)
    return 100 * accuracy(teacher.logits(held.vectors), held.labels)


def table(found: Results, budgets: list[int], rules: list[str], teachers: dict[str, float], seeds: int) -> str:
    """Markdown: one table a budget, a row a rule, a column a target, the mean of all, and the seeds' spread."""
    targets = list(teachers)
    judged = ", ".join(f"{name} {value:.1f}" for name, value in teachers.items())
    lines = [
        "## Side by side",
        "",
        f"Validation accuracy in % of a linear student, mean of {seeds} validation splits; spread: deviation of the mean over",
        "targets between them. Budgets are bytes of the labels' section, coded as plada codes them; reference and encoder are",
        "those of docs/log.md. Test images were not looked at. Made by",
        "",
        "<!-- not run: needs the shared photographs and targets -->",
        "```sh",
        f"python benchmarks/rules.py --index tiny --budgets {','.join(map(str, budgets))} --seeds {seeds} OUT/targets/*",
        "```",
        "",
        f"Teacher on the same images: {judged}.",
        "",
    ]
    for budget in budgets:
        lines += [
            f"### {budget} bytes",
            "",
            "| rule | " + " | ".join(targets) + " | mean | spread |",
            "| --- " * (len(targets) + 3) + "|",
        ]
        for name in rules:
            cells = [statistics.fmean(found[budget, name, target]) for target in targets]
            means = [statistics.fmean(found[budget, name, target][s] for target in targets) for s in range(seeds)]
            lines.append(
                f"| {name} | "
                + " | ".join(f"{c:.1f}" for c in cells)
                + f" | {statistics.fmean(cells):.1f} | {spread(means):.1f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--budgets", default="500,1000,2000")
    parser.add_argument("--rules", default=",".join(RULES), help="names, comma-separated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/rules.md"))
    options = parser.parse_args()
    budgets, rules = [int(text) for text in options.budgets.split(",")], options.rules.split(",")
    teachers: dict[str, float] = {}
    found: Results = {}
    index = plada.open_index(options.index)
    for spec in options.targets:
        target = open_target(spec, home_directory())
        whole = embed_target(index.encoder(), target, report=silent).known
        judged = [measure(index, target, whole, budgets, rules, seed, found) for seed in range(options.seeds)]
        teachers[target.name] = statistics.fmean(judged)
        print(
            target.name,
            {name: round(statistics.fmean(found[budgets[1], name, target.name]), 1) for name in rules},
            flush=True,
        )
    write_section(options.out, "rules", table(found, budgets, rules, teachers, options.seeds))


if __name__ == "__main__":
    main()
