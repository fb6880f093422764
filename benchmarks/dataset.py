"""`payload.dataset` against plain loaders of the same files: a folder, and tars read by offset.

    python ../shared/data/unpack.py DIR --as tars
    python benchmarks/dataset.py --data DIR [--images N] [--rounds N] [--out docs/benchmarks.md] [--json]

The images are a random choice of the reference's, in tars as they came, and the same ones as a folder of files. A plain loader of
the folder does what torchvision's ImageFolder does (open the file, PIL, RGB); one of the tars keeps each tar open and reads by
offset. Neither compares a hash. All go through torch's DataLoader with 2 workers that stay, shuffled alike, batches of 64, and turn
pixels into a tensor and nothing more. Rounds are short and alternate; a ratio is the median of the ratios of each round, which another
job disturbs alike, by_processor_time that of all the processor time that the workers spent. The last line with --json holds all
figures.
"""

import argparse
import io
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import plada
from benchmarks.document import conclude, machine

WORKERS, BATCH, CLASSES = 2, 64, 10
TICKS = os.sysconf("SC_CLK_TCK")


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Pixels as uint8 [height, width, 3]."""
    return torch.from_numpy(np.array(image))


class PlainFiles(Dataset[tuple[torch.Tensor, int]]):
    """Image files, as torchvision's ImageFolder reads them."""

    def __init__(self, paths: list[str], labels: list[int]) -> None:
        self.paths, self.labels = paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with open(self.paths[index], "rb") as file:  # noqa: PTH123 - as torchvision has it
            return to_tensor(Image.open(file).convert("RGB")), self.labels[index]


class PlainTars(Dataset[tuple[torch.Tensor, int]]):
    """Members of tars by offset; each tar stays open in each process."""

    def __init__(self, places: list[tuple[str, int, int]], labels: list[int]) -> None:
        self.places, self.labels = places, labels
        self.opened: dict[str, IO[bytes]] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, offset, size = self.places[index]
        file = self.opened.get(path)
        if file is None:
            file = self.opened[path] = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115
        data = os.pread(file.fileno(), size, offset)
        return to_tensor(Image.open(io.BytesIO(data)).convert("RGB")), self.labels[index]


def members(tars: Path) -> dict[str, tuple[str, int, int]]:
    """Tar, offset and size of each image by its key."""
    found = {}
    for path in sorted(tars.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key = f"{path.stem}/{Path(member.name).stem}"
                found[key] = str(path), member.offset_data, member.size
    return found


def datasets(tars: Path, folder: Path, count: int, home: Path) -> tuple[dict[str, Dataset[Any]], list[int]]:
    """The four data sets by name, and their labels."""
    places = members(tars)
    keys = sorted(places, key=str.encode)
    chosen = np.sort(np.random.default_rng(0).choice(len(keys), count, replace=False))
    labels = (np.arange(count) % CLASSES).tolist()
    paths = []
    for key in (keys[at] for at in chosen.tolist()):
        path, offset, size = places[key]
        file = folder / f"{key}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as tar:  # noqa: PTH123
            file.write_bytes(os.pread(tar.fileno(), size, offset))
        paths.append(str(file))
    found: dict[str, Dataset[Any]] = {
        "plain tars": PlainTars([places[keys[at]] for at in chosen.tolist()], labels),
        "plain folder": PlainFiles(paths, labels),
    }
    names = tuple(map(str, range(CLASSES)))
    for form, place, positions in (("tars", tars, chosen), ("folder", folder, np.arange(count))):
        manifest = plada.open_images(place, home=home).manifest
        payload = plada.Payload(
            positions, np.asarray(labels), names, len(manifest), manifest.key_id, manifest.content_id
        )
        found[form] = payload.dataset(place, to_tensor, home=home)
    return found, labels


def epoch_of(dataset: Dataset[Any], labels: list[int]) -> Callable[[], tuple[float, float]]:
    """A function that reads all images once: images a second, and seconds of its workers' processor time."""
    loader: Any = DataLoader(
        dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip

    def spent() -> float:
        pids = [worker.pid for worker in loader._iterator._workers]
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS

    def run() -> tuple[float, float]:
        before = spent() if loader._iterator is not None else 0.0
        start, total, images = time.perf_counter(), 0, 0
        for pixels, answers in loader:
            images += len(pixels)
            total += int(answers.sum())
        seconds = time.perf_counter() - start
        assert (images, total) == (len(labels), sum(labels))
        return images / seconds, spent() - before

    return run


def main() -> None:
    """Measure, write the section, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        sets, labels = datasets(
            options.data / "reference-tars", Path(name) / "folder", options.images, Path(name) / "home"
        )
        runs = {form: epoch_of(dataset, labels) for form, dataset in sets.items()}
        for run in runs.values():
            run()  # starts the workers, and brings the files into the system's cache
        found: dict[str, list[tuple[float, float]]] = {form: [] for form in runs}
        for number in range(options.rounds):
            for form in list(runs)[:: 1 if number % 2 else -1]:
                found[form].append(runs[form]())
    figures: dict[str, Any] = {"images": options.images, "rounds": options.rounds, "workers": WORKERS}
    lines = [
        "## Data set",
        "",
        f"`python benchmarks/dataset.py --data DIR`, {machine()}. {options.images} images of the reference, {WORKERS} workers,",
        f"batches of {BATCH}, medians of {options.rounds} rounds in turn; images a second. Every image that `payload.dataset` gives was compared",
        "with its hash, those of the plain loaders were not. The ratio is the median of those of the rounds.",
        "",
        "| images in | plain loader | payload.dataset | ratio | by processor time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for form in ("folder", "tars"):
        plain, ours = found[f"plain {form}"], found[form]
        rates = [median(rate for rate, _ in each) for each in (plain, ours)]
        ratio = median(a / b for (a, _), (b, _) in zip(ours, plain, strict=True))
        spent = sum(seconds for _, seconds in plain) / sum(seconds for _, seconds in ours)
        figures |= {
            f"{form}_ratio": ratio,
            f"{form}_ratio_by_processor_time": spent,
            f"{form}_plain_images_per_second": rates[0],
            f"{form}_images_per_second": rates[1],
        }
        lines.append(f"| {form} | {rates[0]:.0f} | {rates[1]:.0f} | {ratio:.3f} | {spent:.3f} |")
    conclude(options.out, "dataset", lines, figures, as_json=options.json)


if __name__ == "__main__":
    main()
