"""What recipes of practitioners are worth for a network on a payload: head first (LP-FT), averaged weights, label smoothing, logit adjustment.

    python benchmarks/student_recipes.py --index NAME --weights FILE --points FILE --keep FILE TARGET... \
        [--budget 500] [--seeds 0] [--image-size 64] [--recipes default,head-first,...] [--json]

Images are those that `auto` chose (`--points`, of benchmarks/selection.py); the student is tf_efficientnet_lite0 from its weights. Every row
is appended to `--keep`; a run that was stopped goes on. Adjusted logits (Menon 2020) cost no training: they are those of `default`, less the
logarithm of each class's share of the payload.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import plada
from benchmarks.selection import OURS, Point
from benchmarks.student_networks import append_row, read_rows
from plada.benchmark.scenario import Scenario, label_reference
from plada.common.files import home_directory
from plada.networks.classifier import features, replace_head
from plada.networks.data import load_images
from plada.networks.linear_head import PENALTY, fit_head
from plada.networks.loop import fit, predict
from plada.networks.network import NetworkSpec, build_network, seed_everything, view_of
from plada.networks.recipe import default_recipe
from plada.sources.decode import load_pixels
from plada.trainer.payload_images import ReferenceCopy, open_payload_images

RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "head-first": {},
    "head-first, body 0.1": {"body_rate": 0.1},
    "averaged weights": {"ema": 0.95},
    "smoothing 0": {"label_smoothing": 0.0},
    "smoothing 0.15": {"label_smoothing": 0.15},
    "epochs 10": {"epochs": 10},
    "epochs 40": {"epochs": 40},
}
ADJUSTED = "adjusted logits"


def measure(scenario: Scenario, point: Point, name: str, spec: NetworkSpec) -> dict[str, float]:
    """Test accuracies in % of a student under a recipe, plain and with adjusted logits."""
    rows = np.sort(scenario.choices(point.rule)(point.keep).rows)
    payload = scenario.payload(rows, scenario.target.classes)
    images = open_payload_images(
        payload, ReferenceCopy(location=scenario.index.info["reference"]["location"]), home=scenario.index.home
    )
    recipe = default_recipe(spec.name, trained=True).changed(scenario.target.recipe).changed(RECIPES[name])
    seed_everything(scenario.seed)
    network = build_network(spec, classes=scenario.classes, image_size=spec.image_size or 0)
    view = view_of(network, supersample=recipe.supersample)
    labelled = load_images(images.read, payload.positions, payload.labels, view, where=images.location)
    if name.startswith("head-first"):
        pixels, readable = load_pixels(images.read, payload.positions, view_of(network), stage="head")
        seen = features(network, pixels[readable])
        mean = seen.mean(axis=0)
        replace_head(
            network,
            fit_head(seen, payload.labels[readable], classes=scenario.classes, mean=mean, penalty=PENALTY),
        )
    fit(network, labelled, recipe=recipe, seed=scenario.seed)
    test = scenario.target.test
    assert test is not None
    pixels, readable = load_pixels(test.collection.read, test.positions, view_of(network), stage="test")
    logits, truth = predict(network, pixels[readable]), test.labels[readable]
    shares = np.bincount(payload.labels, minlength=scenario.classes) / len(payload.labels)
    adjusted = logits - np.log(np.maximum(shares, 1e-6))
    return {
        name: 100 * float((logits.argmax(axis=1) == truth).mean()),
        f"{ADJUSTED}, {name}": 100 * float((adjusted.argmax(axis=1) == truth).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--recipes", default=";".join(RECIPES), help="names, semicolons between")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec = NetworkSpec(name="timm:tf_efficientnet_lite0", weights=options.weights, image_size=options.image_size)
    points = [Point(**{**row, "b": tuple(row["b"])}) for row in read_rows(options.points)]
    index = plada.open_index(options.index)
    kept = read_rows(options.keep)
    for seed in [int(text) for text in options.seeds.split(",")]:
        for target in options.targets:
            where = {"target": Path(target).name, "seed": seed, "budget": options.budget, "side": options.image_size}
            point = next(
                p
                for p in points
                if (p.target, p.seed, p.budget, p.how) == (where["target"], seed, options.budget, OURS)
            )
            scenario = None
            for name in options.recipes.split(";"):
                if any(row["recipe"] == name and where.items() <= row.items() for row in kept):
                    continue
                scenario = scenario or Scenario(
                    index, label_reference(index, target, seed, home=home_directory()), seed
                )
                began = time.process_time()
                found = measure(scenario, point, name, spec)
                for recipe, accuracy in found.items():
                    row = {**where, "recipe": recipe, "accuracy": accuracy, "seconds": time.process_time() - began}
                    kept.append(row)
                    append_row(options.keep, row)
                print(where["target"], seed, {key: round(value, 1) for key, value in found.items()}, flush=True)
    if options.json:
        of = {(row["recipe"], row["target"], row["seed"]): float(row["accuracy"]) for row in kept}
        gains: dict[str, list[float]] = {}
        for (recipe, target, seed), accuracy in of.items():
            if ("default", target, seed) in of:
                gains.setdefault(str(recipe), []).append(accuracy - of["default", target, seed])
        print(json.dumps({recipe: round(float(np.mean(each)), 2) for recipe, each in gains.items()}))


if __name__ == "__main__":
    main()
