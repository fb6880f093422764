"""The paper's label variants at equal bytes: hard labels against average soft ones and Dirichlet ones, linear student.

    python benchmarks/selection_labels.py --index NAME TARGET... [--budget 1000] [--seeds 3] [--out docs/benchmarks.md] [--json]

Rule herd-even, linear teacher, whole files for clients that have the manifest, class names left out. What the note on soft
labels takes is missing for images. Each seed draws another validation split, hence another teacher; the Dirichlet's draws
take the same seed.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import plada
from benchmarks.document import conclude, machine, spread
from plada.api.payload import sender_for
from plada.common.files import home_directory
from plada.common.progress import silent
from plada.common.statistics import accuracy, softmax
from plada.labeler.embedded_target import embed_target
from plada.labeler.pseudo_labels import pseudo_label
from plada.labeler.teachers import TeacherSpec, teach
from plada.networks.linear_head import STUDENT_PENALTY, fit_head
from plada.payload.payload import Payload
from plada.retrieval.embeddings import hold
from plada.retrieval.index import Index
from plada.selection.budget import fill_budget
from plada.selection.prepare import prepare
from plada.selection.rules.registry import DEFAULT, RULES
from plada.selection.soft import HARD, LABELS, soft_labels
from plada.sources.registry import open_target

I64 = npt.NDArray[np.int64]


def measure(index: Index, target: str, seed: int, budget: int) -> dict[str, tuple[int, int, float]]:
    """For each kind of labels (images, bytes of the note, test accuracy in %)."""
    home = home_directory()
    task = open_target(target, home, seed=seed)
    assert task.test is not None
    cache = home / "cache" / "embeddings"
    embedded = embed_target(index.lazy_encoder(), task, report=silent, cache=cache)
    assert embedded.test is not None
    ensemble = teach(index, task, embedded, TeacherSpec(), seed=seed)
    teacher, classes = ensemble.teachers[0], len(task.classes)
    labels = pseudo_label(index.scan(), teacher.logits, classes=classes)
    vectors = hold(labels.positions, index.dimension, index.scan, index.vectors)
    context = prepare(
        labels, vectors, index.mean, embedded, seed=seed
    ).context  # fmt: skip
    choose = RULES[DEFAULT].prepare(labels, context)
    key, content = (bytes.fromhex(index.info[name])[:8] for name in ("key_id", "content_id"))
    names = tuple(str(number) for number in range(classes))

    def probabilities(positions: I64) -> npt.NDArray[np.float32]:
        return softmax(teacher.logits(vectors(positions).astype(np.float32)), teacher.temperature)

    def payload(rows: I64, kind: str) -> Payload:
        order = np.sort(rows)
        hard = Payload(labels.positions[order], labels.labels[order], names, len(index), key, content)
        if kind == HARD:
            return hard
        return replace(hard, notes=soft_labels(probabilities(hard.positions), hard.labels, classes, kind).note())

    sender = sender_for(payload(np.arange(1), HARD).header(), home=index.home)
    found = {}
    for kind in LABELS:

        def make(k: int, kind: str = kind) -> tuple[Payload, int]:
            made = payload(choose(k).rows, kind)
            return made, sender.size(made)

        best = fill_budget(make, budget=budget, min_images=classes, max_images=len(labels), classes=classes)
        sent = best.selection
        wanted: Any = sent.labels
        if kind != HARD:
            wanted = soft_labels(probabilities(sent.positions), sent.labels, classes, kind).targets(sent.labels, seed)
        head = fit_head(
            vectors(sent.positions).astype(np.float32),
            wanted,
            classes=classes,
            mean=index.mean,
            penalty=STUDENT_PENALTY,
        )
        note = best.bytes - sender.size(replace(sent, notes={}))
        found[kind] = (best.k, note, 100 * accuracy(head.logits(embedded.test.vectors), embedded.test.labels))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the index is, if not in this home")
    parser.add_argument("--budget", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    index = plada.open_index(options.index, home=options.index_home)
    rows, named = [], {}
    for target in options.targets:
        found = []
        for seed in range(options.seeds):
            found.append(measure(index, target, seed, options.budget))
            print(Path(target).name, seed, found[-1], flush=True)
        for kind in LABELS:
            images, note, tests = zip(*[one[kind] for one in found], strict=True)
            named[f"{Path(target).name}_{kind}"] = round(statistics.fmean(tests), 2)
            rows.append(
                f"| {Path(target).name} | {kind} | {statistics.fmean(images):.0f} | {statistics.fmean(note):.0f} | "
                f"{statistics.fmean(tests):.1f} +- {spread(tests):.1f} |"
            )
    lines = [
        "## Soft labels",
        "",
        f"`python benchmarks/selection_labels.py --index tiny OUT/targets/...`, {machine()}. {options.budget} bytes, rule {DEFAULT}, linear teacher and",
        f"student, {options.seeds} seeds, test accuracy in %.",
        "",
        "| target | labels | images | bytes of the note | student |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    conclude(options.out, "selection-labels", lines, named, as_json=options.json)


if __name__ == "__main__":
    main()
