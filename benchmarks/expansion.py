"""What networks gain from images that were not sent, named by a linear student on the pack alone (`plada train --expand`).

    python benchmarks/expansion.py --index NAME --reference PLACE --weights FILE TARGET... [--student tf_efficientnet_lite0] \
        [--arms plain,hard:3,soft:3,...] [--budget 1kB] [--rule herd-even] [--seeds 0,1,2] [--image-size 64] [--epochs 8] \
        [--features pack|index] [--chosen-on TARGET,...] [--keep FOLDER] [--out docs/benchmarks.md] [--json]

An arm is FORM:NUMBER[:TIMES]. Added are NUMBER times as many images as were sent; TIMES is how often a payload's image stands among them (1).
Forms: `hard`, the surest images of each class, of each as many, with their names; `soft`, the same images with the linear student's calibrated
probabilities; `free`, as many images as `hard` would take, the surest whatever their class; `any`, as many, drawn at random, with
probabilities. Every arm takes the same number of steps: `--epochs` passes over the payload's images.

`train` is accuracy on the target's own training images, which no run has seen: a form is chosen by it, on the targets of
`--chosen-on`; `test` is for the report. `held` is the share of the payload's images that a linear student of the others names right.
Each run is kept in `--keep` as soon as it is done, and not done again; so are the payloads and the reference's pixels.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

import plada
from benchmarks.document import conclude, machine
from plada.common.arrays import F32, I64, U8
from plada.common.files import home_directory, write_bytes
from plada.common.statistics import class_ranks, softmax
from plada.networks.data import ImagesInMemory
from plada.networks.loop import fit, predict
from plada.networks.network import Network, NetworkSpec, build_network, seed_everything, view_of
from plada.networks.recipe import default_recipe
from plada.payload.pack import Pack, find_pack
from plada.payload.payload import Payload
from plada.retrieval.index import Index
from plada.sources.decode import load_pixels
from plada.sources.registry import open_target
from plada.sources.targets.target import Split
from plada.trainer.expand import index_features, judge, pack_features

ARMS = "plain,hard:3,soft:3,soft:7,any:7"


@dataclass(frozen=True, slots=True)
class Arm:
    """What is added to a payload: nothing, or `number` times as many images in a form; the payload's images stand there `times`."""

    form: str
    number: int = 0
    times: int = 1

    @classmethod
    def of(cls, text: str) -> "Arm":
        """The arm that `text` names."""
        form, *numbers = text.split(":")
        return cls(form, *map(int, numbers))


@dataclass(frozen=True, slots=True)
class Targets:
    """Rows of these are labels of images: float64 [n, classes]; the labels that a training step gets are row numbers."""

    rows: F32
    precision: None = None

    def targets(self, labels: I64, seed: int) -> F32:
        """As SoftLabels.targets."""
        return self.rows[labels]


@dataclass(frozen=True, slots=True)
class Run:
    """One trained network: accuracies in %, images sent and added, and the share that the linear student named right."""

    target: str
    arm: str
    seed: int
    train: float
    test: float
    sent: int
    added: int
    held: float


@dataclass(frozen=True, slots=True)
class LinearLabels:
    """What a linear student of a payload says of the whole reference, the temperature of its logits, and the share of the payload's
    images that it names right when they are held back."""

    positions: I64
    logits: F32
    labels: I64
    margins: F32
    temperature: float
    held: float


def label_linearly(sent: Payload, home: Path, index: Index | None) -> LinearLabels:
    """Labels by a student on an index, or on the pack that is installed."""
    pack = find_pack(home, sent.key_id)
    if index is None and pack is None:
        raise SystemExit(
            f"{home}: no pack of the reference is installed; make one with plada index --pack, or say --features index"
        )
    features = index_features(index, sent) if index is not None else pack_features(cast(Pack, pack), sent)
    held, temperature = judge(features, len(sent.classes), "cpu")
    head = features.fit(len(sent.classes), "cpu")
    blocks = [(positions, head.logits(vectors.astype(np.float32))) for positions, vectors in features.scan()]
    positions, logits = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return LinearLabels(positions, logits, logits.argmax(axis=1), first - second, temperature, held)


def added_rows(arm: Arm, sent: Payload, linear: LinearLabels, seed: int) -> I64:
    """Rows of `linear` that an arm adds."""
    if arm.form == "plain":
        return np.zeros(0, np.int64)
    fresh = np.flatnonzero(~np.isin(linear.positions, sent.positions))
    order = fresh[np.argsort(-linear.margins[fresh], kind="stable")]
    count = min(arm.number * len(sent), len(fresh))
    if arm.form == "free":
        return order[:count]
    if arm.form == "any":
        return np.random.default_rng(seed).choice(fresh, count, replace=False)
    return order[class_ranks(linear.labels[order]) < count / len(sent.classes)]


def train(
    arm: Arm, sent: Payload, linear: LinearLabels, pixels: U8, network: Network, options: Any, seed: int
) -> tuple[Network, int]:
    """A network trained as an arm says, and how many images were added."""
    classes = len(sent.classes)
    rows = added_rows(arm, sent, linear, seed)
    own = np.tile(np.arange(len(sent)), arm.times)
    positions = np.concatenate([sent.positions[own], linear.positions[rows]])
    targets = np.concatenate(
        [np.eye(classes, dtype=np.float32)[sent.labels[own]], _answers(arm, linear, rows, classes)]
    )
    recipe = default_recipe(options.student, trained=True)
    epochs = max(1, round(options.epochs * len(sent) / len(positions)))
    images = ImagesInMemory(pixels[positions], np.arange(len(positions)))
    soft: Any = Targets(targets)
    fit(network, images, recipe=replace(recipe, epochs=epochs), seed=seed, soft=soft)
    return network, len(rows)


def _answers(arm: Arm, linear: LinearLabels, rows: I64, classes: int) -> F32:
    if arm.form in ("soft", "any"):
        return softmax(linear.logits[rows], linear.temperature).astype(np.float32)
    return np.eye(classes, dtype=np.float32)[linear.labels[rows]]


class Material:
    """What runs share: payloads, the reference's pixels and the target's images, made once and kept."""

    def __init__(self, options: Any) -> None:
        self.options, self.home = options, home_directory()
        self.keep = Path(options.keep)
        self.keep.mkdir(parents=True, exist_ok=True)
        self._pixels: U8 | None = None

    def network(self, classes: int) -> Network:
        """The network before training."""
        options = self.options
        spec = NetworkSpec(
            name=options.student,
            weights=options.weights,
            model_args=json.loads(options.model_args),
            image_size=options.image_size,
        )
        return build_network(spec, classes=classes)

    def payload(self, target: str, seed: int) -> Payload:
        """What a client would have received."""
        file = self.keep / f"{Path(target).name}-{self.options.budget}-{self.options.rule}-{seed}.plada"
        if not file.exists():
            plada.select(
                plada.open_index(self.options.index),
                target=target,
                budget=self.options.budget,
                rule=self.options.rule,
                seed=seed,
                out=file,
            )
        return plada.read_payload(file, reference=self.options.reference)

    def pixels(self, network: Network) -> U8:
        """The whole reference as the network sees it."""
        if self._pixels is None:
            view = view_of(network)
            file = self.keep / f"pixels-{view.size}.npy"
            if not file.exists():
                images = plada.open_images(self.options.reference)
                loaded, _ = load_pixels(
                    images.collection.read, range(len(images.manifest)), view, stage="read", workers=1
                )
                with (self.keep / f"pixels-{view.size}.part").open("wb") as part:
                    np.save(part, loaded)
                Path(part.name).rename(file)
            self._pixels = np.load(file, mmap_mode="r")
        return self._pixels


def score(network: Network, split: Split) -> float:
    """Accuracy in % on a split."""
    pixels, readable = load_pixels(split.collection.read, split.positions, view_of(network), stage="test", workers=1)
    logits = predict(network, pixels[readable])
    return 100 * float((logits.argmax(axis=1) == split.labels[readable]).mean())


def measure(target: str, arm: str, seed: int, material: Material) -> Run:
    """Train and test one network."""
    options = material.options
    sent = material.payload(target, seed)
    index = plada.open_index(options.index) if options.features == "index" else None
    linear = label_linearly(sent, material.home, index)
    seed_everything(seed)
    network = material.network(len(sent.classes))
    network, added = train(Arm.of(arm), sent, linear, material.pixels(network), network, options, seed)
    known = open_target(target, material.home, seed=seed)
    assert known.test is not None
    assert tuple(known.classes) == tuple(sent.classes)
    name = Path(target).name
    return Run(name, arm, seed, score(network, known.train), score(network, known.test), len(sent), added, linear.held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--student", default="tf_efficientnet_lite0")
    parser.add_argument("--model-args", default='{"pad_type": "same"}', help="of the student, as JSON")
    parser.add_argument("--arms", default=ARMS)
    parser.add_argument("--budget", default="1kB")
    parser.add_argument("--rule", default="herd-even")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--features", choices=["pack", "index"], default="pack")
    parser.add_argument("--chosen-on", default="", help="targets on whose training images the form was chosen")
    parser.add_argument("--keep", default="expansion")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options: Any = parser.parse_args()
    material, runs = Material(options), []
    settings = (
        f"{options.student}-{options.image_size}-{options.epochs}-{options.features}-{options.budget}-{options.rule}"
    )
    for seed in map(int, options.seeds.split(",")):
        for target in options.targets:
            for arm in options.arms.split(","):
                file = material.keep / f"{settings}-{Path(target).name}-{arm.replace(':', '_')}-{seed}.json"
                if not file.exists():
                    write_bytes(file, json.dumps(asdict(measure(target, arm, seed, material))).encode())
                runs.append(Run(**json.loads(file.read_text())))
                print(runs[-1], file=sys.stderr, flush=True)
    conclude(options.out, "expansion", lines(runs, options), figures(runs), as_json=options.json)


def gain(runs: Sequence[Run], arm: str, target: str, what: str) -> list[float]:
    """Points over `plain`, one for each seed."""
    by = {(run.arm, run.seed): getattr(run, what) for run in runs if run.target == target}
    return [value - by["plain", seed] for (name, seed), value in by.items() if name == arm]


def figures(runs: Sequence[Run]) -> dict[str, Any]:
    """Mean gains in test accuracy by arm: over all targets, and of the worst one."""
    arms = sorted({run.arm for run in runs} - {"plain"})
    targets = sorted({run.target for run in runs})
    means = {arm: [statistics.fmean(gain(runs, arm, target, "test")) for target in targets] for arm in arms}
    return {
        arm: {"mean": round(statistics.fmean(each), 2), "worst": round(min(each), 2)} for arm, each in means.items()
    }


def lines(runs: Sequence[Run], options: Any) -> list[str]:
    """The section of docs/benchmarks.md."""
    chosen = options.chosen_on.split(",") if options.chosen_on else []
    rows = []
    for target in dict.fromkeys(run.target for run in runs):
        for arm in dict.fromkeys(run.arm for run in runs):
            mine = [run for run in runs if (run.target, run.arm) == (target, arm)]
            train, test = (statistics.fmean(getattr(run, what) for run in mine) for what in ("train", "test"))
            over = statistics.fmean(gain(runs, arm, target, "test"))
            note = " *" if target in chosen else ""
            rows.append(
                f"| {target}{note} | {arm} | {mine[0].sent} + {mine[0].added} | {mine[0].held:.2f} | {train:.1f} | {test:.1f} | {over:+.1f} |"
            )
    overall = [f"| {arm} | {each['mean']:+.1f} | {each['worst']:+.1f} |" for arm, each in figures(runs).items()]
    named = "the pack alone" if options.features == "pack" else f"index `{options.index}`"
    return [
        "## Images that were not sent",
        "",
        f"`python benchmarks/expansion.py --index {options.index} --arms {options.arms} ...`, {machine()}. {options.student} at "
        f"{options.image_size} px from its weights; {options.budget}, rule {options.rule}; {options.epochs} passes over the payload's images "
        f"and the same number of steps for every arm; linear student on {named}; seeds {options.seeds}.",
        "",
        "Gains in points of test accuracy, means of targets and the worst target:",
        "",
        "| arm | mean | worst |",
        "| --- | --- | --- |",
        *overall,
        "",
        "| target | arm | images sent + added | held | target's training images, % | test, % | gain |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        *(["", "`*` The form was chosen on the training images of these targets."] if chosen else []),
    ]


if __name__ == "__main__":
    main()
