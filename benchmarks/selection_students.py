"""Selections of equal bytes, taught to a network that is trained whole.

    python benchmarks/selection_students.py --index NAME --reference OUT/reference-tars --weights FILE --points FILE TARGET... \
        [--budget 1000] [--seeds 2] [--image-size 64] [--out docs/benchmarks.md] [--json]

`--points` is what `benchmarks/selection.py --keep FILE` wrote: for each target, seed and budget the rule and the number of images
of energy and paper (which the paper's coder brings into the budget) and of auto with the pack. The same images are chosen
again and given to `plada train` with mobilenetv2_100 and its default recipe; test accuracy in %, mean and deviation of the seeds.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

import plada
from benchmarks.document import conclude, machine, spread
from plada.common.files import home_directory
from plada.common.progress import silent
from plada.labeler.embedded_target import embed_target
from plada.labeler.pseudo_labels import pseudo_label
from plada.labeler.teachers import TeacherSpec, teach
from plada.retrieval.embeddings import hold
from plada.retrieval.index import Index
from plada.selection.compose import header_of
from plada.selection.prepare import prepare
from plada.selection.rules.registry import RULES
from plada.sources.registry import open_target

HOW = ("energy", "paper", "auto-pack")


def payloads(index: Index, target: str, seed: int, points: dict[str, tuple[str, int]]) -> dict[str, plada.Payload]:
    """For each of `points` (rule, images) the payload, as benchmarks/selection.py chose it."""
    home = home_directory()
    task = open_target(target, home, seed=seed)
    cache = home / "cache" / "embeddings"
    embedded = embed_target(index.lazy_encoder(), task, report=silent, cache=cache)
    ensemble = teach(index, task, embedded, TeacherSpec(), seed=seed)
    labels = pseudo_label(index.scan(), ensemble.teachers[0].logits, classes=len(task.classes))
    vectors = hold(labels.positions, index.dimension, index.scan, index.vectors)
    context = prepare(labels, vectors, index.mean, embedded, seed=seed).context
    head, made = header_of(index), {}
    for how, (rule, images) in points.items():
        rows = np.sort(RULES[rule].prepare(labels, context)(images).rows)
        made[how] = plada.Payload(
            labels.positions[rows], labels.labels[rows], task.classes, head.reference, head.key_id, head.content_id
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the index is, if not in this home")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options: Any = parser.parse_args()
    student = plada.NetworkSpec(
        name="mobilenetv2_100", weights=options.weights, model_args={"pad_type": "same"}, image_size=options.image_size
    )
    index = plada.open_index(options.index, home=options.index_home)
    known = [json.loads(line) for line in options.points.read_text().splitlines()]
    rows, named = [], {}
    for target in options.targets:
        found: dict[str, list[tuple[int, float]]] = {how: [] for how in HOW}
        for seed in range(options.seeds):
            points = {
                one["how"]: (one["rule"], one["keep"])
                for one in known
                if (one["target"], one["seed"], one["budget"]) == (Path(target).name, seed, options.budget)
                and one["how"] in HOW
            }
            for how, payload in payloads(index, target, seed, points).items():
                summary = plada.train(
                    payload, reference=options.reference, student=student, target=target, seed=seed,
                    recipe={"epochs": options.epochs} if options.epochs else None,
                )  # fmt: skip
                found[how].append((len(payload), 100 * (summary.accuracy or 0.0)))
                print(Path(target).name, seed, how, found[how][-1], flush=True)
        for how, measured in found.items():
            if measured:
                tests = [test for _, test in measured]
                named[f"{Path(target).name}_{how}"] = round(statistics.fmean(tests), 2)
                rows.append(
                    f"| {Path(target).name} | {how} | {statistics.fmean([k for k, _ in measured]):.0f} | "
                    f"{statistics.fmean(tests):.1f} +- {spread(tests):.1f} |"
                )
    lines = [
        "## Students that are trained whole",
        "",
        f"`python benchmarks/selection_students.py --index tiny ...`, {machine()}. mobilenetv2_100 at {options.image_size} px, {options.budget} bytes, "
        f"{options.seeds} seeds.",
        "",
        "| target | selection | images | test accuracy, % |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    conclude(options.out, "selection-students", lines, named, as_json=options.json)


if __name__ == "__main__":
    main()
