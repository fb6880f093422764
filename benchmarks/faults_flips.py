"""One bit turned in a file that is believed later: its reader refuses it, makes it again, or gives what it gave before.

Every file that plada keeps and believes is tried, by the function that reads it, in this process. A flip counts as caught when
the reader's result is the right one, or when it raised an error of plada's. Any other result, or any other error, is a miss.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import plada
from benchmarks.faults_material import IMAGES, INDEX, RECIPE, Material, fingerprint
from plada.errors import PladaError
from plada.indexer.ann import ann_source, read_ann
from plada.indexer.store import Store
from plada.labeler.embedding_cache import load_embeddings, save_embeddings
from plada.networks.checkpoint import Checkpointer, read_checkpoint
from plada.networks.data import ImagesInMemory
from plada.networks.loop import fit
from plada.networks.network import NetworkSpec, build_network
from plada.networks.recipe import Recipe
from plada.payload.pack import read_pack
from plada.sources import scan
from plada.sources.formats import listing
from plada.sources.leaks.fingerprints import collection_fingerprints
from plada.sources.manifest import load_manifest
from plada.sources.reference import kept_manifests
from plada.trainer.model import load_model
from plada.trainer.payload_context import PayloadContext, find_folder_bounds

RIGHT, REFUSED, WRONG, FOREIGN = "right", "refused", "wrong", "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """Files of one kind: `read` gives what a reader makes of them as a digest; `share` of all flips falls on them."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[], str]
    share: float


def measure(material: Material, *, flips: int, seed: int) -> dict[str, Any]:
    """Turn `flips` bits, spread over the files of all kinds."""
    rng, kinds = np.random.default_rng(seed), list(believed(material))
    total = sum(kind.share for kind in kinds)
    counts = [int(flips * kind.share / total) for kind in kinds]
    counts[0] += flips - sum(counts)
    outcomes: dict[str, Counter[str]] = {}
    misses: list[str] = []
    for kind, count in zip(kinds, counts, strict=True):
        right = kind.read()
        if kind.read() != right:
            raise RuntimeError(f"{kind.name}: two readings of undamaged files differ")
        outcomes[kind.name] = Counter()
        for number in range(count):
            path = kind.files[number % len(kind.files)]
            outcome, said = _flip(kind, path, right, rng)
            outcomes[kind.name][outcome] += 1
            if outcome in (WRONG, FOREIGN):
                misses.append(f"{kind.name}: {said}")
    caught = sum(counter[RIGHT] + counter[REFUSED] for counter in outcomes.values())
    return {
        "flips": sum(counts), "flips_caught": caught, "flips_missed": misses,
        "flips_by_kind": {name: dict(counter) for name, counter in outcomes.items()},
    }  # fmt: skip


def _flip(kind: Believed, path: Path, right: str, rng: np.random.Generator) -> tuple[str, str]:
    whole = path.read_bytes()
    damaged, at, bit = bytearray(whole), int(rng.integers(len(whole))), int(rng.integers(8))
    damaged[at] ^= 1 << bit
    place = f"bit {bit} of byte {at} of {path.name} ({len(whole)} bytes)"
    path.write_bytes(damaged)
    try:
        return (RIGHT, "") if kind.read() == right else (WRONG, f"another result after {place}")
    except PladaError:
        return REFUSED, ""
    except KeyboardInterrupt:
        raise
    except BaseException as err:  # a panic of a compiled library is no Exception
        return FOREIGN, f"{type(err).__name__} ({str(err)[:120]}) after {place}"
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)


def believed(material: Material) -> Iterator[Believed]:
    """Every kind of file that plada believes later."""
    yield from _models(material)
    yield from _caches(material)
    yield from _listings(material)
    yield from _references(material)
    yield from _index(material)


def _models(material: Material) -> Iterator[Believed]:
    small, linear = material.file("small.safetensors"), material.file("linear.safetensors")

    def network() -> str:
        student: Any = load_model(small).student
        return fingerprint([student.network.module.state_dict(), student.classes, student.view.__repr__(), student.run])

    def head() -> str:
        student: Any = load_model(linear).student
        values = {name: getattr(student.head, name) for name in ("mean", "weight", "bias")}
        return fingerprint([values, student.classes, repr(student.encoder.config), student.run])

    yield Believed(name="model, a network", files=(small,), read=network, share=3)
    yield Believed(name="model, a linear head", files=(linear,), read=head, share=3)
    path = material.file("checkpoint")
    rng = np.random.default_rng(0)
    images = ImagesInMemory(rng.integers(0, 256, (32, 16, 16, 3), dtype=np.uint8), np.arange(32) % 2)
    net = build_network(NetworkSpec(name="small_cnn", image_size=16), classes=2)
    recipe = Recipe().changed({**RECIPE, "epochs": 1})
    fit(net, images, recipe=recipe, seed=0, checkpointer=Checkpointer(path, {"seed": 0}, seconds=0))
    yield Believed(name="checkpoint", files=(path,), read=lambda: fingerprint(read_checkpoint(path)), share=4)


def _caches(material: Material) -> Iterator[Believed]:
    path, rng = material.file("embeddings.npz"), np.random.default_rng(0)
    vectors, readable = rng.normal(size=(40, 32)).astype(np.float32), np.ones(40, np.bool_)
    save_embeddings(path, "d", vectors, readable)

    def embeddings() -> str:
        held = load_embeddings(path, "d", images=40, dimension=32)
        return fingerprint(held if held is not None else (vectors, readable))  # None: they are embedded again

    yield Believed(name="embeddings", files=(path,), read=embeddings, share=3)
    collection, looks = plada.open_images(material.pictures, home=material.home).collection, material.file("looks.bin")
    again = material.file("again.bin")

    def fingerprints() -> str:
        return fingerprint(np.array(collection_fingerprints(collection, looks)))

    fingerprints()
    yield Believed(name="fingerprints", files=(looks,), read=fingerprints, share=2)
    part, half = Path(f"{again}.part"), Path(f"{again}.half")
    with suppress_stop():
        collection_fingerprints(collection, again, chunk=16, report=_stopping())
    part.rename(half)

    def unfinished() -> str:
        again.unlink(missing_ok=True)
        shutil.copyfile(half, part)
        return fingerprint(np.array(collection_fingerprints(collection, again, chunk=16)))

    yield Believed(name="fingerprints, unfinished", files=(half,), read=unfinished, share=1)
    pack = material.file("some.pack")

    def rows() -> str:
        opened = read_pack(pack, verify=True)
        return fingerprint([np.array(opened.features), opened.key_id, opened.pack_id])

    yield Believed(name="pack", files=(pack,), read=rows, share=1)


def _stopping() -> Callable[[Any], None]:
    """A listener that stops the work half-way, as Ctrl-C does."""

    def report(progress: Any) -> None:
        if progress.done >= 48:
            raise KeyboardInterrupt

    return report


@contextmanager
def suppress_stop() -> Iterator[None]:
    """Go on after work that was meant to be stopped."""
    try:
        yield
    except PladaError:
        return
    raise RuntimeError("nothing was stopped")


def _listings(material: Material) -> Iterator[Believed]:
    before = listing.SPILL
    home = material.file("listing-home")
    pictures = _aged(material)
    listing.SPILL = 8  # so that these few are kept as millions are
    try:
        first = plada.open_images(pictures, home=home)
        wanted = fingerprint(list(first.collection.keys.to_pylist()))
    finally:
        listing.SPILL = before
    (folder,) = (path.parent for path in home.glob("listings/*/listing.json"))

    def read() -> str:
        held = listing.load_listing(folder, lambda note: True)
        if held is None:
            return right  # it is listed again
        return fingerprint(
            [held.keys.to_pylist(), np.array(held.sizes), np.array(held.part_of), np.array(held.offsets), held.parts]
        )

    right = ""
    right = read()
    if not right or not wanted:
        raise RuntimeError("the listing that was just written is not taken")
    yield Believed(name="listing", files=tuple(sorted(folder.iterdir())), read=read, share=4)


def _aged(material: Material) -> Path:
    """The pictures, in folders that have not changed for a minute: what changed just now is not kept as a listing."""
    then = time.time() - 60
    for path in [material.pictures, *material.pictures.rglob("*")]:
        os.utime(path, (then, then))
    return material.pictures


def _references(material: Material) -> Iterator[Believed]:
    (folder,) = (path.parent for path in material.home.glob("references/*/reference.json"))
    path = folder / "manifest.parquet"

    def manifest() -> str:
        opened = load_manifest(path)
        rows = [table.to_pydict() for table in opened.blocks()]
        found = [opened.find(key) for key in rows[0]["key"][:8]]
        return fingerprint([rows, opened.key_id, opened.content_id, len(opened), found])

    yield Believed(name="manifest", files=(path,), read=manifest, share=4)
    key, collection = load_manifest(path).key_id, plada.open_images(material.pictures, home=material.home).collection
    half = material.file("half")
    with suppress_stop():
        scan.scan_manifest(collection, half, report=_stopping(), workers=1, chunk=32)
    chunks = tuple(sorted(half.parent.glob("half-*.part/*.parquet")))
    copy = material.file("chunks")
    chunks[0].parent.rename(copy)

    def resumed() -> str:
        half.unlink(missing_ok=True)
        shutil.copytree(copy, chunks[0].parent)
        whole = scan.scan_manifest(collection, half, workers=1, chunk=32)
        return fingerprint([[table.to_pydict() for table in whole.blocks()], whole.content_id])

    files = tuple(copy / each.name for each in chunks)
    yield Believed(name="manifest, unfinished", files=files, read=resumed, share=1)

    def note() -> str:
        kept = list(kept_manifests(material.home, key))
        return fingerprint([each.location for each in kept]) if kept else right  # passed over, and said

    right = ""
    right = note()
    yield Believed(name="reference.json", files=(folder / "reference.json",), read=note, share=1)
    from plada.payload.container import read_header

    header = read_header(material.file("old.plada").read_bytes())[0]
    context = PayloadContext(home=material.home)

    def bounds() -> str:
        return fingerprint(find_folder_bounds(header, context))

    bounds()
    yield Believed(name="folder bounds", files=tuple(folder.glob("blocks-*.bin")), read=bounds, share=0.5)


def _index(material: Material) -> Iterator[Believed]:
    folder, home = material.index, material.home
    info = folder / "index.json"

    def opened() -> str:
        return fingerprint(plada.open_index(INDEX, home=home).info)

    yield Believed(name="index.json", files=(info,), read=opened, share=4)
    table = next(folder.glob("images-*.lance"))

    def rows() -> str:
        index = plada.open_index(INDEX, home=home)
        keys = [column.to_pylist() for column in index.keys_in_order()]
        return fingerprint([[list(pair) for pair in index.scan()], list(index.fingerprints()), keys])

    yield Believed(
        name="vectors, looks and keys of the table", files=tuple((table / "data").iterdir()), read=rows, share=5
    )
    yield Believed(
        name="versions of the table", files=tuple((table / "_versions").glob("*.manifest")), read=rows, share=1
    )

    def some() -> str:
        index, places = plada.open_index(INDEX, home=home), range(0, IMAGES, 7)
        return fingerprint([index.vectors(places), index.keys(places)])

    yield Believed(name="vectors and keys by position", files=tuple((table / "data").iterdir()), read=some, share=1)
    yield from _unfinished(material)
    yield from _parts(material)
    yield from _growing(material)
    try:
        import faiss  # noqa: F401
    except ImportError:
        return
    plada.make_ann(INDEX, kind="ivf", home=home)

    def ann() -> str:
        approximate = read_ann(folder / "ann", ann_source(plada.open_index(INDEX, home=home).info))
        return fingerprint([approximate.info, np.array(approximate.vectors)])

    yield Believed(name="approximate index", files=tuple(sorted((folder / "ann").iterdir())), read=ann, share=1)


def _unfinished(material: Material) -> Iterator[Believed]:
    store = Store(material.file("unfinished"))
    store.folder.mkdir()
    store.begin({"images": 3, "key_id": "00" * 16, "encoder": {"name": "gradients"}})
    yield Believed(
        name="building.json", files=(store.plan_path,), read=lambda: fingerprint(store.unfinished()), share=1
    )


def _parts(material: Material) -> Iterator[Believed]:
    home = material.file("part-home")
    plada.index(material.pictures, name=INDEX, encoder="gradients", shard="1/1", home=home)
    (path,) = home.glob("indexes/*/parts/*/part.json")
    store = Store(path.parent)
    yield Believed(name="part.json", files=(path,), read=lambda: fingerprint(store.read_json(path)), share=1)


def _growing(material: Material) -> Iterator[Believed]:
    """An index that grows takes over the rows of the one before it."""
    pictures, home, kept = (material.file(name) for name in ("grown", "grown-home", "grown-kept"))
    shutil.copytree(material.pictures, pictures)
    plada.index(pictures, name=INDEX, encoder="gradients", home=kept)
    (pictures / "a" / "new.png").write_bytes(next(material.pictures.rglob("*.png")).read_bytes())
    table = next((kept / "indexes" / INDEX).glob("images-*.lance"))

    def grown() -> str:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(kept, home)
        plada.index(pictures, name=INDEX, encoder="gradients", append=True, home=home)
        index = plada.open_index(INDEX, home=home)
        return fingerprint(
            [[list(pair) for pair in index.scan()], list(index.fingerprints()), index.info["content_id"]]
        )

    yield Believed(name="rows taken over by --append", files=tuple((table / "data").iterdir()), read=grown, share=0.4)
