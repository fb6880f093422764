"""Damage pictures, tars, tables, manifests and targets at random and see that nothing but a PladaError comes of it.

    python tests/fuzz/fuzz_inputs.py --seconds 3600 [--count 100000] [--seed 0] [--crashes DIR]

Seeds are small good inputs made here (tests/fuzz/inputs.py). Half of the damage is to bytes as they lie there; the other half
leaves checksums of PNG chunks, tar headers and the manifest's footer right, so that it reaches what they guard. Of targets one
file is damaged, taken away, renamed or copied. One process at low priority. The last line is JSON: executions by outcome, the
slowest, the most memory. Exit status 1 where something was wrong: an exception that is no PladaError, more than SECONDS,
more than MEGABYTES. The damaged bytes are then in DIR; DIR/current is what a crash of the whole process left.
"""

import faulthandler
import os
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from plada.errors import PladaError
from plada.sources.collection import Collection
from plada.sources.decode import View, decode
from plada.sources.formats.parquet import open_parquet
from plada.sources.formats.tars import open_tars
from plada.sources.manifest import load_manifest
from plada.sources.targets.layouts import find_layout, read_layout
from plada.sources.targets.target import TargetRequest
from tests.fuzz.fuzzing import Findings, most_memory, mutated, run
from tests.fuzz.inputs import Seed, Seeds, make_seeds, mended

SECONDS, MEGABYTES = 10.0, 1024
VIEWS = (View(size=16), View(size=16, mode="squash"), View(size=16, crop=0.5))


def read_picture(data: bytes) -> str:
    """Decode, and see what a network would."""
    image = decode(data)
    assert image.mode == "RGB", f"mode {image.mode}"
    for view in VIEWS:
        assert view.of(image).shape == (16, 16, 3)
    return "picture"


def read_all(collection: Collection) -> None:
    """Every image, in both ways of reading, and its pixels."""
    count = len(collection)
    assert count == len(collection.keys) == len(collection.sizes), "a listing of several lengths"
    streamed = dict(collection.stream(0, count))
    assert sorted(streamed) == list(range(count)), "a stream without some images"
    for position in range(count):
        data = collection.read(position)
        assert data == streamed[position], f"image {position} is read in two ways"
        try:
            decode(data)
        except PladaError:
            continue


def read_tars(place: Path) -> str:
    read_all(open_tars(place))
    return "tars"


def read_parquet(place: Path) -> str:
    read_all(open_parquet(place))
    return "parquet"


def read_manifest(place: Path) -> str:
    """Rows, keys and ids."""
    manifest = load_manifest(next(place.iterdir()))
    keys = manifest.keys.to_pylist()
    assert len(keys) == len(manifest), "keys of another number"
    for position in range(len(manifest)):
        row = manifest.row(position)
        assert manifest.hash_at(position) == row.hash
    for key in keys:
        manifest.find(key)
    manifest.check()
    return "manifest"


def read_target(place: Path) -> str:
    """The layout that is found, its labels and images."""
    layout = find_layout(place)
    if layout is None:
        return "no target"
    target = read_layout(place, layout, TargetRequest("seed"))
    for split in (target.train, target.validation, target.test):
        if split is not None:
            assert len(split.positions) == len(split.labels), "a label too many"
            if len(split):
                assert 0 <= split.labels.min() <= split.labels.max() < len(target.classes), "a label that is no class"
            for position in split.positions.tolist():
                try:
                    decode(split.collection.read(position))
                except PladaError:
                    continue
    return "target"


READERS = {"tars": read_tars, "parquet": read_parquet, "manifest": read_manifest, "target": read_target}


def damage(root: Path, seed: Seed, rng: np.random.Generator) -> bytes:
    """Damage a seed's files below `root`; what was written, or the name of what was moved."""
    file = root / seed.files[int(rng.integers(len(seed.files)))]
    what = int(rng.integers(8)) if seed.kind == "target" else 7
    if what == 0:
        file.unlink()
    elif what == 1:
        name = mutated(os.fsencode(file.name), rng).replace(b"/", b"").replace(b"\0", b"")[:255]
        new = file.parent / os.fsdecode(name)
        if name not in (b"", b".", b"..") and not new.exists():
            file.rename(new)
    elif what == 2:
        other = root / seed.files[int(rng.integers(len(seed.files)))]
        if other != file:
            shutil.copyfile(other, file)
    else:
        data = file.read_bytes()
        bad = mended(data, seed.kind, rng) if rng.integers(2) else mutated(data, rng)
        file.write_bytes(bad)
        return bad
    return str(file.relative_to(root)).encode()


def try_one(seeds: Seeds, seed: Seed, work: Path, current: Path, rng: np.random.Generator) -> str:
    """Damage one seed and read it; the outcome. Raises what is no PladaError."""
    if seed.kind == "picture":
        bad = mended(seed.data, "picture", rng) if rng.integers(2) else mutated(seed.data, rng)
        current.write_bytes(bad)
        try:
            return read_picture(bad)
        except PladaError as err:
            return type(err).__name__
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(seeds.root / seed.name, work)
    current.write_bytes(damage(work, seed, rng))
    try:
        return READERS[seed.kind](work)
    except PladaError as err:
        assert str(err).strip(), f"{type(err).__name__} without a word"
        return type(err).__name__


def fuzz(seconds: float, count: int, seed: int, crashes: Path | None = None) -> Findings:
    """Damage inputs for so long, or so many times; the first limit counts. Kinds come in turn, however many seeds each has."""
    rng, findings = np.random.default_rng(seed), Findings()
    before, end = most_memory(), time.monotonic() + seconds
    with TemporaryDirectory(prefix="plada-fuzz-") as folder:
        seeds = make_seeds(Path(folder) / "seeds")
        place = Path(folder) if crashes is None else crashes
        place.mkdir(parents=True, exist_ok=True)
        current = place / "current"
        for number in range(count):
            if time.monotonic() > end:
                break
            chosen = seeds.draw(rng)
            name = f"{number}-{chosen.name}"
            start = time.process_time()
            try:
                outcome = try_one(seeds, chosen, Path(folder) / "work", current, rng)
            except Exception as err:
                outcome = "WRONG"
                findings.wrong.append((name, f"{type(err).__name__}: {err}"))
            findings.add_time(name, time.process_time() - start, SECONDS)
            if most_memory() - before > MEGABYTES:
                findings.wrong.append((name, f"memory grew by {most_memory() - before:.0f} MiB"))
                before = most_memory()  # each height is said once
            if findings.is_wrong(name) and current.exists():
                shutil.copyfile(current, place / name.replace("/", "-"))
            findings.outcomes[outcome] += 1
        current.unlink(missing_ok=True)
    return findings


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(run(__doc__.partition("\n")[0], fuzz, MEGABYTES))
