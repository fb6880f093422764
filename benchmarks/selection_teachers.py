"""A fine-tuned teacher of a target and its logits for the whole reference, kept in a file: what other benchmarks stand on.

    python benchmarks/selection_teachers.py --index NAME --weights FILE --keep FOLDER TARGET... [--image-size 64]

The network is trained as `plada select --teacher finetune:ARCH` trains it. Batch norms are then folded and batches are
small, which changes no logit by more than rounding and takes half of the time on a CPU.
"""

import argparse
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import plada
from plada.common.files import home_directory, whole_file
from plada.encoders.batch_norm import fold_batch_norms
from plada.networks.finetune import finetune
from plada.networks.loop import predict
from plada.networks.network import NetworkSpec, keep_memory, view_of
from plada.retrieval.index import Index
from plada.sources.decode import load_pixels
from plada.sources.registry import open_target
from plada.sources.targets.target import Split, Target

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
BATCH = 32  # images: their activations stay in the cache
BLOCK = 1024  # images that are decoded at a time


@dataclass(frozen=True, slots=True)
class Answers:
    """Logits float32 [n, classes] of a fine-tuned teacher: of the reference by position, of validation and test images;
    `seconds` of processor time that the reference took."""

    reference: F32
    validation: F32
    test: F32
    seconds: float


def processor_seconds() -> float:
    """Processor time of this process so far: wall clocks of busy machines say nothing."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def teacher_answers(
    index: Index,
    target: str,
    keep: Path,
    *,
    weights: Path,
    architecture: str = "mobilenetv2_100",
    image_size: int = 64,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Target, Answers]:
    """The target and what its fine-tuned teacher says, out of `keep` if it is there."""
    task = open_target(target, home_directory(), seed=seed)
    path = keep / f"{task.name}-{architecture}-{image_size}-{seed}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as held:
            return task, Answers(held["reference"], held["validation"], held["test"], float(held["seconds"]))
    spec = NetworkSpec(name=architecture, weights=weights, model_args={"pad_type": "same"}, image_size=image_size)
    network = finetune(spec, task, cache=keep, seed=seed)
    say(f"{task.name}: trained, {processor_seconds():.0f} s")
    keep_memory()
    fold_batch_norms(network.module, network.module, network.size)
    view = view_of(network)

    def of_split(split: Split | None) -> F32:
        if split is None:
            return np.zeros((0, len(task.classes)), np.float32)
        pixels, readable = load_pixels(split.collection.read, split.positions, view, stage="target")
        assert readable.all()
        return predict(network, pixels, batch_size=BATCH)

    validation, test = of_split(task.validation), of_split(task.test)
    began = processor_seconds()
    reference = index.reference()
    logits = np.empty((len(index), len(task.classes)), np.float32)
    for start in range(0, len(index), BLOCK):
        positions = np.arange(start, min(start + BLOCK, len(index)))
        pixels, readable = load_pixels(reference.read, positions, view, stage="reference")
        assert readable.all()
        logits[positions] = predict(network, pixels, batch_size=BATCH)
    seconds = processor_seconds() - began
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(file, reference=logits, validation=validation, test=test, seconds=np.float64(seconds))
    say(f"{task.name}: {len(index)} images, {seconds:.0f} s of processor time")
    return task, Answers(logits, validation, test, seconds)


def open_options(parser: argparse.ArgumentParser) -> None:
    """Options that all benchmarks with a fine-tuned teacher have."""
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--index", required=True)
    parser.add_argument("--index-home", type=Path, help="where the index is, if not in this home")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True, help="folder of what was trained and said")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    open_options(parser)
    options: Any = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    index = plada.open_index(options.index, home=options.index_home)
    for target in options.targets:
        task, said = teacher_answers(
            index, target, options.keep, weights=options.weights, image_size=options.image_size, seed=options.seed,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
        for name, split, logits in (("validation", task.validation, said.validation), ("test", task.test, said.test)):
            if split is not None:
                print(f"{task.name}, {name}: {np.mean(logits.argmax(axis=1) == split.labels):.1%}", flush=True)


if __name__ == "__main__":
    main()
