"""What a client gains for no byte from the unlabelled rest of its reference: a network trained on the payload alone, on more images
that a linear student names (`plada train --widen`), and with consistency on these, unnamed.

    python benchmarks/zero_byte.py --index NAME --reference OUT/reference-tars --weights FILE TARGET... \
        [--budget 1kB] [--more 50] [--seeds 2] [--arms plain,widen,consistency] [--image-size 64] [--out docs/benchmarks.md] [--json]

The payload is `plada select --rule herd-even`. Every run takes as many steps on labelled batches: 20 epochs of the payload's
images. Consistency (FixMatch, Sohn et al. 2020): beside each labelled batch one of the `more` images a class that a linear
student is surest of, without its names; where the network is surer than SURE of a mirrored image, it must say the same of
one that is turned, scaled and moved far. `train` is accuracy on the target's own training images, which no run has seen and by
which one is to be chosen; `test` is for the report.
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import plada
from benchmarks.document import conclude, machine, spread
from plada.common.files import home_directory
from plada.common.progress import Tracker, silent
from plada.networks.augment import augment
from plada.networks.data import ImagesInMemory, load_images
from plada.networks.loop import draw_order, fit
from plada.networks.network import Network, NetworkSpec, build_network, normalise, seed_everything, to_floats, view_of
from plada.networks.process_group import SINGLE_PROCESS
from plada.networks.recipe import Recipe, default_recipe
from plada.networks.step import TrainingStep, initial_state
from plada.payload.payload import Payload
from plada.sources.registry import open_target
from plada.sources.targets.target import Target
from plada.trainer.evaluation import evaluate_split
from plada.trainer.expand import expand
from plada.trainer.network_student import NetworkStudent
from plada.trainer.payload_images import ReferenceCopy, open_payload_images

ARCHITECTURE = "mobilenetv2_100"
ARMS = "plain,widen,consistency"
SURE = 0.8
FAR = {"rotate": 30.0, "scale": 1.6, "translate": 0.2, "shear": 0.3, "stretch": 0.3}  # of the strong view
_NONE = {"rotate": 0.0, "scale": 1.0, "translate": 0.0, "shear": 0.0, "stretch": 0.0}  # of the weak one: mirrored only


def held_images(payload: Payload, reference: str, network: Network, home: Path) -> ImagesInMemory:
    """Pixels and labels of a payload's images, in memory."""
    images = open_payload_images(payload, ReferenceCopy(location=reference), home=home)
    made = load_images(images.read, payload.positions, payload.labels, view_of(network), where=images.location)
    assert isinstance(made, ImagesInMemory)
    return made


def fit_consistent(
    network: Network, images: ImagesInMemory, more: npt.NDArray[np.uint8], recipe: Recipe, seed: int
) -> None:
    """As `fit`, with a batch of `more` uint8 [m, size, size, 3] beside each labelled one."""
    import torch
    from torch.nn import functional

    where = torch.device("cpu")
    size = min(recipe.batch_size, len(images))
    batches = len(images) // size
    state = initial_state(network, recipe, seed, where, steps=recipe.epochs * batches, limit=size)
    step = TrainingStep(network, state, recipe, where, SINGLE_PROCESS, Tracker("train", 1, silent))
    weak, strong = recipe.changed(_NONE), recipe.changed(FAR)
    drawn = torch.Generator().manual_seed(seed + 1)
    # The labelled half is TrainingStep's own; its optimiser waits until the other half's gradients are there.
    for _ in range(recipe.epochs):
        for rows in draw_order(state, len(images))[: batches * size].view(batches, size):
            step._gradients(images.pixels[rows.numpy()], images.labels[rows.numpy()])
            shown = to_floats(more[torch.randint(len(more), (size,), generator=drawn).numpy()], where)
            with torch.no_grad():
                odds = state.module(normalise(network, augment(shown, weak, drawn))).softmax(1)
            sure, named = odds.max(1)
            kept = sure >= SURE
            if kept.any():
                said = state.module(normalise(network, augment(shown[kept], strong, drawn)))
                loss: Any = functional.cross_entropy(said, named[kept], reduction="sum") / size
                loss.backward()
            state.optimiser.step()
            state.schedule.step()
    network.module.eval()


def measure(arm: str, payload: Payload, target: Target, options: Any, seed: int) -> tuple[float, float]:
    """(accuracy on the target's training images, on its test images), in %."""
    seed_everything(seed)
    spec = NetworkSpec(
        name=ARCHITECTURE, weights=options.weights, model_args={"pad_type": "same"}, image_size=options.image_size
    )
    network = build_network(spec, classes=len(payload.classes))
    recipe, home = default_recipe(ARCHITECTURE, trained=True), home_directory()
    wide = payload
    if arm != "plain":
        wide = expand(payload, options.more, home=options.index_home or home, index=options.index)
    if arm == "consistency":
        fresh = ~np.isin(wide.positions, payload.positions)
        unnamed = replace(wide, positions=wide.positions[fresh], labels=wide.labels[fresh])
        more = held_images(unnamed, options.reference, network, home).pixels
        fit_consistent(network, held_images(payload, options.reference, network, home), more, recipe, seed)
    else:
        images = held_images(wide, options.reference, network, home)
        epochs = max(1, round(recipe.epochs * len(payload) / len(wide)))
        fit(network, images, recipe=replace(recipe, epochs=epochs), seed=seed)
    model = NetworkStudent(network, payload.classes, recipe)
    assert target.test is not None
    found = [evaluate_split(model.logits, model.view, split, payload.classes) for split in (target.train, target.test)]
    return 100 * found[0].accuracy, 100 * found[1].accuracy


def sent(index: plada.Index, spec: str, options: Any, seed: int) -> Payload:
    """What a client would have received."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sent.plada"
        plada.select(index, target=spec, budget=options.budget, rule="herd-even", seed=seed, out=file)
        return plada.read_payload(file, reference=options.reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the index is, if not in this home")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--budget", default="1kB")
    parser.add_argument("--more", type=int, default=50, help="images of each class besides those that were sent")
    parser.add_argument("--arms", default=ARMS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--json", action="store_true")
    options: Any = parser.parse_args()
    home, index = home_directory(), plada.open_index(options.index, home=options.index_home)
    arms, rows, named = options.arms.split(","), [], {}
    for spec in options.targets:
        name = Path(spec).name
        found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
        for seed in range(options.seeds):
            payload = sent(index, spec, options, seed)
            for arm in arms:
                found[arm].append(measure(arm, payload, open_target(spec, home, seed=seed), options, seed))
                print(name, seed, arm, len(payload), *(f"{value:.1f}" for value in found[arm][-1]), flush=True)
        for arm, measured in found.items():
            train, test = ([one[side] for one in measured] for side in (0, 1))
            named[f"{name}_{arm}"] = round(statistics.fmean(test), 2)
            rows.append(
                f"| {name} | {arm} | {statistics.fmean(train):.1f} +- {spread(train):.1f} | "
                f"{statistics.fmean(test):.1f} +- {spread(test):.1f} |"
            )
    lines = [
        "## Zero-byte gains",
        "",
        f"`python benchmarks/zero_byte.py --index tiny ...`, {machine()}. {ARCHITECTURE} at {options.image_size} px from its weights, "
        f"{options.budget}, {options.more} more images a class, {options.seeds} seeds.",
        "",
        "| target | training | target's training images, % | test, % |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    conclude(options.out, "zero-byte", lines, named, as_json=options.json)


if __name__ == "__main__":
    main()
