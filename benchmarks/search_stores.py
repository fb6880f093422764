"""Synthetic indexes for measuring search: real stores, written by plada's own Store, of vectors that are like embeddings.

The vectors are an overlapping mixture of low rank: 2 000 centres in 48 dimensions of falling weight, the spread within a
component as large as that between them, and a little noise in all dimensions. No clusters stand apart, which would make
any approximate index look good.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plada.indexer.embed import EmbeddedRows
from plada.indexer.store import Store
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES
from plada.sources.manifest import HASH_BYTES

SHARD = 65_536
_RANK, _CENTRES, _NOISE = 48, 2000, 0.15
_A_SYNSET = 650  # images a synset of ImageNet-21K has on average


def mixture(rows: int, dimension: int, *, block: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Block number `block` of the collection of this seed: unit vectors float32 [rows, dimension]."""
    rank = min(_RANK, dimension)
    fixed = np.random.default_rng([seed, 1])
    basis = np.linalg.qr(fixed.normal(size=(dimension, rank)))[0].T * (np.arange(rank)[:, None] + 1.0) ** -0.5
    centres = fixed.normal(size=(_CENTRES, rank)).astype(np.float32)
    rng = np.random.default_rng([seed, 2, block])
    inner = centres[rng.integers(_CENTRES, size=rows)] + rng.standard_normal((rows, rank), np.float32)
    vectors = inner @ basis.astype(np.float32)
    vectors += np.float32(_NOISE / dimension**0.5) * rng.standard_normal(vectors.shape, np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def held_out(queries: int, dimension: int, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Queries of the same collection that are in no store: unit vectors float32 [queries, dimension]."""
    return mixture(queries, dimension, block=1 << 30, seed=seed)


def synset_keys(images: int) -> Any:
    """Keys like those of ImageNet-21K, sorted, all different: pyarrow chunked string array [images]."""
    chunks, made = [], 0
    for synset in range(-(-images // _A_SYNSET)):
        count, name = min(_A_SYNSET, images - made), f"n{1_440_764 + 97 * synset:08d}"
        # Numbers are not padded, as in the original: their order is that of their bytes.
        chunks.append(pa.array(sorted(f"{name}/{name}_{7 * number + synset % 7}" for number in range(count))))
        made += count
    return pa.chunked_array(chunks, pa.string())


def make_index(home: Path, name: str, images: int, dimension: int, *, seed: int = 0) -> Path:
    """The finished index `home`/indexes/`name`; one that is there already is taken as it is."""
    store = Store(home / "indexes" / name)
    if store.info() is not None:
        return store.folder
    keys = synset_keys(images)
    with store.lock():
        store.begin({"synthetic": [images, dimension, seed]}, restart=True)
        for start, rows in _shards(images, dimension, seed):
            store.append(rows, keys.slice(start, len(rows.status)))
        encoder = {
            "name": "synthetic", "dimension": dimension, "view": {}, "mean": [], "std": [], "weights": "", "digest": "",
            "model_args": {}, "self_check": [],
        }  # fmt: skip
        info = {
            "name": name, "images": images, "dimension": dimension, "reference": {"name": name, "location": name},
            "encoder": encoder, "images_per_second": 0.0, "seconds": {},
        }  # fmt: skip
        store.finish(keys, info, home / "manifests" / f"{name}.parquet")
    return store.folder


def _shards(images: int, dimension: int, seed: int) -> Iterator[tuple[int, EmbeddedRows]]:
    for block, start in enumerate(range(0, images, SHARD)):
        n = min(SHARD, images - start)
        stream = hashlib.shake_128(f"{seed} {block}".encode()).digest(n * HASH_BYTES)
        yield (
            start,
            EmbeddedRows(
                start=start,
                vectors=mixture(n, dimension, block=block, seed=seed).astype(np.float16),
                hashes=np.frombuffer(stream, np.uint8).reshape(n, HASH_BYTES),
                sizes=np.full(n, 110_000, np.int64),
                width=np.full(n, 500, np.int32),
                height=np.full(n, 375, np.int32),
                fingerprints=np.zeros((n, FINGERPRINT_BYTES), np.uint8),
                status=[""] * n,
            ),
        )
