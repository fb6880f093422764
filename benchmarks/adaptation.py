"""Clients that adapt: unlabelled pictures of their own (`--adapt`), and a few labelled ones (`--own`).

    python benchmarks/adaptation.py --index NAME --client-index NAME TARGET... [--images 500] [--rule herd-even] [--seeds 0,1,2] \
        [--draws 10] [--networks TARGET,... --network-weights FILE] [--keep FILE] [--out docs/benchmarks.md] [--json]

Students are linear: A on the index's own embeddings, B on those of another index of the same reference. Each seed draws another
validation split, hence another teacher; the rule chooses so many images. Test images are drawn unevenly (a third of the classes four times
as often as the others) and evenly, `--draws` times for each seed. One half of each draw, without labels, is the pool; accuracy is that of the
other half. `whole` takes all test images as they are, as the pool and for the test.

A has the payload's calibration, as it comes out of the note; A and B also that of the labelled set. Targets are two halves, every other one
by name: each is shown under the variant of VARIANTS that gained most on the half that it is not in.

For `--own` 1, 5 and 20 of the target's training images of each class are drawn by the seed. Its weighting was chosen on the other training
images of the targets of CHOSEN_ON; the other targets are counted separately. `--networks` names targets for which student N is measured, too:
tf_efficientnet_lite0 from its weights, trained whole at 96 pixels on the same images, under the first seed.
"""

import argparse
import copy
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import plada
from benchmarks.document import conclude, machine
from plada.benchmark.scenario import STEPS, Scenario, label_reference
from plada.common.arrays import F32, I64
from plada.common.files import home_directory
from plada.common.products import BLAS, one_thread
from plada.common.progress import Clock, silent
from plada.labeler.calibration import fit_calibration
from plada.labeler.embedded_target import EmbeddedSplit, embed_target
from plada.networks.data import load_images
from plada.networks.linear_head import STUDENT_PENALTY, Head, fit_head
from plada.networks.network import NetworkSpec
from plada.networks.process_group import ProcessGroup
from plada.payload.calibration import LABELLED_SET, OWN_PICTURES, Calibration, calibration_of
from plada.retrieval.index import Index
from plada.sources.decode import load_pixels
from plada.trainer.adaptation import correct
from plada.trainer.network_student import NetworkStudent, learn_own, train_network
from plada.trainer.own_pictures import ENOUGH, OwnPictures, held_out_logits, importance, open_own
from plada.trainer.payload_images import ReferenceCopy, open_payload_images
from plada.trainer.run import TrainingRun

UNEVEN, EVEN, WHOLE = "uneven", "even", "whole"
VARIANTS = {
    "1e-3, 3": (1e-3, 3),
    "1e-3, 10": (1e-3, 10),
    "1e-2, 3": (1e-2, 3),
    "1e-2, 10": (1e-2, 10),
}  # penalty, prior images
OWN = (1, 5, 20)
CHOSEN_ON = ("chest_xray", "flowers5", "rsscn7_satellite")
NETWORK_SIZE = 96
REACHED = 2.0  # points that the mean gain has to reach


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracies in % before and after, means of the draws; `used` is the share of draws in which shares corrected anything."""

    target: str
    seed: int
    student: str
    how: str
    kind: str
    variant: str
    before: float
    after: float
    used: float = 0.0
    note: int = 0  # bytes of the calibration in the payload


@dataclass(frozen=True, slots=True)
class Student:
    """A linear student and what it stands on: embeddings of the chosen images with labels, the target's images, the mean."""

    name: str
    sent: F32
    labels: I64
    known: EmbeddedSplit
    test: EmbeddedSplit
    mean: F32
    classes: int

    def fit(self, rows: I64 | None = None, own: tuple[F32, I64] | None = None) -> Head:
        """A head on the chosen images at `rows`, None for all, and own pictures."""
        sent, labels = (self.sent, self.labels) if rows is None else (self.sent[rows], self.labels[rows])
        counts = None
        if own is not None:
            counts = importance(labels, own[1], self.classes)
            sent, labels = np.concatenate([sent, own[0]]), np.concatenate([labels, own[1]])
        return fit_head(
            sent, labels, classes=self.classes, mean=self.mean, penalty=STUDENT_PENALTY, steps=STEPS, importance=counts
        )

    def logits_of_rows(self, rows: I64) -> Callable[[F32], F32]:
        """Logits by a head on the chosen images at `rows`."""
        return self.fit(rows).logits

    def logits_of_own(self, own: tuple[F32, I64], rows: I64) -> Callable[[F32], F32]:
        """Logits by a head on the chosen images and the own pictures at `rows`."""
        return self.fit(own=(own[0][rows], own[1][rows])).logits


def students(scenario: Scenario, client: Index, client_vectors: F32, rows: I64) -> list[Student]:
    """A and B of some rows of the pseudo-labels."""
    labels, positions = scenario.labels.labels[rows], scenario.labels.positions[rows]
    other = embed_target(
        client.lazy_encoder(), scenario.target, report=silent, cache=home_directory() / "cache" / "embeddings"
    )
    made = []
    for name, vectors, seen, mean in (
        ("A", scenario.vectors(positions), scenario.embedded, scenario.index.mean),
        ("B", client_vectors[positions], other, client.mean),
    ):
        assert seen.test is not None
        made.append(Student(name, vectors.astype(np.float32), labels, seen.known, seen.test, mean, scenario.classes))
    return made


def draw(labels: I64, kind: str, seed: int) -> tuple[I64, I64]:
    """(rows of the pool, rows of the test) of test images with `labels`."""
    if kind == WHOLE:
        everything = np.arange(len(labels))
        return everything, everything
    rng, classes = np.random.default_rng(seed), int(labels.max()) + 1
    half = int(np.bincount(labels).min()) // 2
    frequent = rng.permutation(classes)[: max(1, round(classes / 3))] if kind == UNEVEN else np.arange(classes)
    pool, test = [], []
    for label in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == label))
        each = half if label in frequent else max(1, round(half / 4))
        pool.append(rows[:each])
        test.append(rows[half : half + each])
    return np.concatenate(pool), np.concatenate(test)


def measure_adapting(
    student: Student, head: Head, calibrate: Callable[[float], Calibration], draws: int
) -> Iterator[tuple[str, str, float, float, float]]:
    """As `measure_logits`, for a linear student."""
    yield from measure_logits(head.logits(student.test.vectors), student.test.labels, calibrate, draws)


def measure_logits(
    logits: F32, truth: I64, calibrate: Callable[[float], Calibration], draws: int
) -> Iterator[tuple[str, str, float, float, float]]:
    """(kind, variant, before, after, used) of logits of the test images with a calibration, which `calibrate` makes under a penalty."""
    for variant, (penalty, prior) in VARIANTS.items():
        calibration = calibrate(penalty)
        for kind in (UNEVEN, EVEN, WHOLE):
            before, after, used = [], [], []
            for number in range(draws if kind != WHOLE else 1):
                pool, test = draw(truth, kind, number)
                found = correct(logits[pool], calibration, prior=prior)
                answers = logits[test] / found.temperature + found.offset
                before.append(100 * float((logits[test].argmax(axis=1) == truth[test]).mean()))
                after.append(100 * float((answers.argmax(axis=1) == truth[test]).mean()))
                used.append(float(found.used))
            yield kind, variant, statistics.fmean(before), statistics.fmean(after), statistics.fmean(used)


def note_bytes(scenario: Scenario, rows: I64, calibration: Calibration) -> int:
    """Bytes that a calibration adds to the file of some rows of the pseudo-labels."""
    payload, sender = scenario.payload(rows), scenario.sender("manifest")
    return sender.size(replace(payload, notes=calibration.note())) - sender.size(payload)


def measure(scenario: Scenario, made: Sequence[Student], rows: I64, draws: int) -> Iterator[Point]:
    """All points of a target and seed."""
    name, seed = scenario.target.name, scenario.seed
    for student in made:
        head = student.fit()
        known = head.logits(student.known.vectors)
        held_out = held_out_logits(student.logits_of_rows, student.sent, student.labels, student.classes)

        def of_payload(penalty: float, logits: F32 = known, truth: I64 = student.known.labels) -> Calibration:
            sent = fit_calibration(logits, truth, penalty=penalty)
            arrived = calibration_of(sent.note(), logits.shape[1])
            assert arrived is not None
            return arrived

        def of_labelled_set(penalty: float, logits: F32 = held_out, truth: I64 = student.labels) -> Calibration:
            return fit_calibration(logits, truth, source=LABELLED_SET, spreads=True, penalty=penalty)

        ways = {"payload": of_payload} if student.name == "A" else {}
        for how, calibrate in {**ways, LABELLED_SET: of_labelled_set}.items():
            size = note_bytes(scenario, rows, of_payload(1e-3)) if how == "payload" else 0
            for kind, variant, before, after, used in measure_adapting(student, head, calibrate, draws):
                yield Point(name, seed, student.name, how, kind, variant, before, after, used, size)
        yield from measure_own(name, seed, student, head, draws)


def measure_own(name: str, seed: int, student: Student, head: Head, draws: int) -> Iterator[Point]:
    """A student's head fitted again with own pictures; with 5 a class, where these are ENOUGH, B also adapts, calibrated on them."""
    truth, known = student.test.labels, student.known
    before = 100 * float((head.logits(student.test.vectors).argmax(axis=1) == truth).mean())
    for each in OWN:
        rng = np.random.default_rng([seed, each])
        rows = np.concatenate(
            [rng.permutation(np.flatnonzero(known.labels == label))[:each] for label in range(student.classes)]
        )
        own = known.vectors[rows].astype(np.float32), known.labels[rows]
        again = student.fit(own=own)
        after = 100 * float((again.logits(student.test.vectors).argmax(axis=1) == truth).mean())
        yield Point(name, seed, student.name, OWN_PICTURES, f"own {each}", "", before, after)
        if each == 5 and student.name == "B" and len(rows) >= ENOUGH:
            logits = held_out_logits(partial(student.logits_of_own, own), own[0], own[1], student.classes)
            found = measure_adapting(student, again, partial(_of_own, logits, own[1]), draws)
            for kind, variant, first, then, used in found:
                yield Point(name, seed, student.name, OWN_PICTURES, kind, variant, first, then, used)


def _of_own(logits: F32, labels: I64, penalty: float) -> Calibration:
    return fit_calibration(logits, labels, source=OWN_PICTURES, spreads=True, penalty=penalty)


def _always(calibration: Calibration, _: float) -> Calibration:
    return calibration


def measure_network(scenario: Scenario, rows: I64, weights: Path, draws: int) -> Iterator[Point]:
    """Student N: trained once on some rows of the pseudo-labels; then its last layer learns own pictures, and with the most of them it adapts."""
    target = scenario.target
    assert target.test is not None
    payload, home = scenario.payload(rows, target.classes), scenario.index.home
    spec = NetworkSpec(name="timm:tf_efficientnet_lite0", weights=weights, pretrained=True, image_size=NETWORK_SIZE)
    run = TrainingRun(
        payload=payload, labels=payload, student=spec, recipe={**target.recipe, "image_size": NETWORK_SIZE}, seed=scenario.seed,
        home=home,
    )  # fmt: skip
    images = open_payload_images(
        payload, ReferenceCopy(location=scenario.index.info["reference"]["location"]), home=home
    )
    student = train_network(run, images, ProcessGroup(), Clock(), silent).student
    assert isinstance(student, NetworkStudent)
    labelled = load_images(images.read, payload.positions, payload.labels, student.view, where=images.location)
    pixels, readable = load_pixels(target.test.collection.read, target.test.positions, student.view, stage="test")
    truth = target.test.labels[readable]

    def accuracy(logits: F32) -> float:
        return 100 * float((logits.argmax(axis=1) == truth).mean())

    before = accuracy(student.logits(pixels[readable]))
    for each in OWN:
        again = replace(student, network=replace(student.network, module=copy.deepcopy(student.network.module)))
        with tempfile.TemporaryDirectory() as folder:
            own = write_own(scenario, each, Path(folder))
            calibration, _ = learn_own(replace(run, own=own), again.network, labelled, 1, None, silent)
        logits = again.logits(pixels[readable])
        yield Point(target.name, scenario.seed, "N", OWN_PICTURES, f"own {each}", "", before, accuracy(logits))
        if each == OWN[-1] and calibration is not None:
            found = measure_logits(logits, truth, partial(_always, calibration), draws)
            for kind, variant, first, then, used in found:
                yield Point(target.name, scenario.seed, "N", OWN_PICTURES, kind, variant, first, then, used)


def write_own(scenario: Scenario, each: int, folder: Path) -> OwnPictures:
    """So many training images of each class, drawn by the seed, as a client would have them."""
    train, classes = scenario.target.train, scenario.target.classes
    rng = np.random.default_rng([scenario.seed, each])
    for label, name in enumerate(classes):
        (folder / name).mkdir()
        for position in rng.permutation(train.positions[train.labels == label])[:each].tolist():
            (folder / name / f"{position}.png").write_bytes(train.collection.read(position))
    return open_own(folder, classes)


def choose_variants(points: Sequence[Point]) -> dict[str, str]:
    """The variant of each target: the one that gained most on the other half, uneven and even draws together, of A with the payload's
    calibration."""
    targets = sorted({p.target for p in points})
    chosen = {}
    for half, others in ((targets[::2], targets[1::2]), (targets[1::2], targets[::2])):
        gained = {
            variant: mean(
                p.after - p.before for p in points
                if p.target in others and p.variant == variant and p.how == "payload" and p.kind in (UNEVEN, EVEN)
            )
            for variant in VARIANTS
        }  # fmt: skip
        chosen.update(dict.fromkeys(half, max(VARIANTS, key=lambda variant: gained[variant] or 0.0)))
    return chosen


def mean(values: Iterator[float]) -> float | None:
    """The mean; None of nothing."""
    known = list(values)
    return statistics.fmean(known) if known else None


def figures(points: Sequence[Point]) -> dict[str, float | int | None]:
    """The named figures, in points; losses are positive."""
    chosen, targets = choose_variants(points), sorted({p.target for p in points})

    def gain(target: str, student: str, how: str, kind: str) -> float | None:
        return mean(
            p.after - p.before for p in points
            if (p.target, p.student, p.how, p.kind) == (target, student, how, kind) and p.variant in (chosen[target], "")
        )  # fmt: skip

    def gains(student: str, how: str, kind: str, some: Sequence[str] = targets) -> list[float]:
        found = [gain(target, student, how, kind) for target in some]
        return [value for value in found if value is not None]

    named: dict[str, float | int | None] = {}
    for key, student, how in (
        ("", "A", "payload"), ("_labelled_a", "A", LABELLED_SET), ("_labelled_b", "B", LABELLED_SET), ("_own_b", "B", OWN_PICTURES),
    ):  # fmt: skip
        uneven, even = gains(student, how, UNEVEN), gains(student, how, EVEN)
        named[f"gain_uneven{key}"] = mean(iter(uneven))
        named[f"least_uneven{key}"] = min(uneven, default=None)
        named[f"targets_reached{key}"] = sum(value >= REACHED for value in uneven)
        named[f"gain_even{key}"] = mean(iter(even))
        named[f"loss_even{key}"] = max(0.0, -min(even)) if even else None
    named["targets"] = len(targets)
    if "chest_xray" in targets:
        named["chest_xray"] = gain("chest_xray", "A", "payload", WHOLE)
    elsewhere = [target for target in targets if target not in CHOSEN_ON]
    for each in OWN:
        a, b, n = (gains(student, OWN_PICTURES, f"own {each}") for student in "ABN")
        named[f"own_{each}"] = mean(iter(a + b))
        named[f"own_{each}_a"], named[f"own_{each}_b"], named[f"own_{each}_n"] = (
            mean(iter(some)) for some in (a, b, n)
        )
        others = (value for student in "AB" for value in gains(student, OWN_PICTURES, f"own {each}", elsewhere))
        named[f"own_{each}_elsewhere"] = mean(others)
    named["note_bytes"] = mean(float(p.note) for p in points if p.note)
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in named.items()}


def document(points: Sequence[Point], named: dict[str, float | int | None], options: argparse.Namespace) -> list[str]:
    """The section of docs/benchmarks.md."""
    chosen, targets = choose_variants(points), sorted({p.target for p in points})
    seeds = sorted({p.seed for p in points})
    ways = [("A", "payload"), ("A", LABELLED_SET), ("B", LABELLED_SET), ("B", OWN_PICTURES)]
    lines = [
        "## Clients that adapt",
        "",
        "`python benchmarks/adaptation.py --index tiny --client-index lite0 OUT/targets/*"
        + (f" --networks {options.networks} --network-weights FILE" if options.networks else "")
        + "`,",
        f"{machine()}. {options.images} images by",
        f"`{options.rule}`, linear students: A on mobilenetv2_100 at 96 px, B on tf_efficientnet_lite0 at 96 px; test accuracy in %, means of",
        f"{len(seeds)} seeds with {options.draws} draws each. Uneven: a third of the classes four times as often. Half of each draw is the pool, the other",
        "half the test. Penalty of the bias and weight of the expected shares are those that did best on the other half of the targets: "
        + ", ".join(f"{target} {variant}" for target, variant in sorted(chosen.items())) + ".",
    ]  # fmt: skip
    for student, how in ways:
        own = f"with 5 own pictures a class, where these are {ENOUGH} or more"
        titled = own if how == OWN_PICTURES else f"calibrated by the {how}"
        lines += [
            "", f"`--adapt`, student {student} {titled}:", "",
            "| target | uneven | gain | corrected | even | gain | corrected | as it is | gain |", "| --- " * 9 + "|",
        ]  # fmt: skip
        for target in targets:
            cells = [target]
            for kind in (UNEVEN, EVEN, WHOLE):
                here = [
                    p for p in points
                    if (p.target, p.student, p.how, p.kind, p.variant) == (target, student, how, kind, chosen[target])
                ]  # fmt: skip
                if here:
                    cells += [f"{mean(p.before for p in here):.1f}", f"{mean(p.after - p.before for p in here):+.1f}"]
                    cells += [f"{100 * (mean(p.used for p in here) or 0):.0f}" for _ in range(kind != WHOLE)]
            lines += ["| " + " | ".join(cells) + " |"] if len(cells) > 1 else []
    lines += ["", '"Corrected" is in how many of 100 draws the shares were surely other than expected.', ""]
    lines += [
        "`--own`, gain in points:",
        "",
        "| target | " + " | ".join(f"{s}, {k} a class" for s in "AB" for k in (0, *OWN)) + " |",
    ]
    lines += ["| --- " * (3 + 2 * len(OWN)) + "|"]
    for target in targets:
        cells = [target]
        for student in "AB":
            here = [p for p in points if (p.target, p.student, p.how, p.variant) == (target, student, OWN_PICTURES, "")]
            cells.append(f"{mean(p.before for p in here):.1f}")
            cells += [f"{mean(p.after - p.before for p in here if p.kind == f'own {each}'):+.1f}" for each in OWN]
        lines.append("| " + " | ".join(cells) + " |")
    if networks := sorted({p.target for p in points if p.student == "N"}):
        lines += [
            "",
            f"`--own`, student N, tf_efficientnet_lite0 trained whole at {NETWORK_SIZE} px, seed {seeds[0]}; `--adapt` with {OWN[-1]} a class:",
            "",
        ]
        lines += [
            "| target | none | " + " | ".join(f"{each} a class" for each in OWN) + " | uneven | even |",
            "| --- " * (4 + len(OWN)) + "|",
        ]
        for target in networks:
            here = [p for p in points if (p.target, p.student) == (target, "N")]
            cells = [target, f"{here[0].before:.1f}"]
            for kind in (*(f"own {each}" for each in OWN), UNEVEN, EVEN):
                value = mean(p.after - p.before for p in here if p.kind == kind and p.variant in (chosen[target], ""))
                cells.append("" if value is None else f"{value:+.1f}")
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| figure | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in named.items())]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--client-index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the indexes are, if not in this home")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rule", default="herd-even")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--networks", default="", help="targets that a network is trained for, too")
    parser.add_argument("--network-weights", type=Path, help="of tf_efficientnet_lite0, for networks")
    parser.add_argument("--keep", type=Path, help="what was measured, line by line; a stopped run goes on")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    kept = options.keep.read_text().splitlines() if options.keep and options.keep.exists() else []
    points = [Point(**json.loads(line)) for line in kept]
    index = plada.open_index(options.index, home=options.index_home)
    client = plada.open_index(options.client_index, home=options.index_home)
    client_vectors = np.concatenate([vectors.astype(np.float16) for _, vectors in client.scan()])
    seeds = [int(text) for text in options.seeds.split(",")]
    for seed, spec in itertools.product(seeds, options.targets):
        name = Path(spec).name
        had = {p.student for p in points if (p.target, p.seed) == (name, seed)}
        network = seed == seeds[0] and name in options.networks.split(",")
        if had >= ({"A", "B", "N"} if network else {"A", "B"}):
            continue
        with one_thread(BLAS):
            scenario = Scenario(index, label_reference(index, spec, seed, home=home_directory()), seed)
            rows = np.sort(scenario.choices(options.rule)(options.images).rows)
            found = (
                []
                if "A" in had
                else list(measure(scenario, students(scenario, client, client_vectors, rows), rows, options.draws))
            )
        if network:
            found += measure_network(scenario, rows, options.network_weights, options.draws)
        points += found
        if options.keep:
            with options.keep.open("a") as file:
                file.writelines(json.dumps(asdict(point)) + "\n" for point in found)
        print(name, seed, file=sys.stderr, flush=True)
    named = figures(points)
    conclude(options.out, "adaptation", document(points, named, options), named, as_json=options.json)


if __name__ == "__main__":
    main()
