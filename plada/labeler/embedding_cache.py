"""Embeddings of target images, kept by content: the same images under the same encoder are embedded once.

A file is named by the hash of what decides it: the encoder's identity and the bytes of the images in order. It carries
that hash inside, too, and a checksum before its bytes; one that was renamed, cut or damaged is made again.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import blake3
import numpy as np
import numpy.typing as npt

from plada.common.arrays import F32
from plada.common.checksums import seal, unseal
from plada.common.failures import first_line
from plada.common.files import write_bytes
from plada.encoders.encoder import EncoderConfig
from plada.sources.targets.target import Split


def split_digest(split: Split, *more: str) -> str:
    """Hash of the stored bytes of a split's images, in order, and of `more`; hex."""
    whole = blake3.blake3()
    for text in more:
        whole.update(f"{len(text.encode())}:{text}".encode())
    for position in split.positions.tolist():
        data = split.collection.read(position)
        whole.update(len(data).to_bytes(8, "little"))
        whole.update(data)
    return str(whole.hexdigest(32))


def identity_of(config: EncoderConfig) -> str:
    """All that decides an encoder's embeddings, as one line."""
    return json.dumps(config.settings(), sort_keys=True)


def load_embeddings(
    path: Path, digest: str, *, images: int, dimension: int, say: Callable[[str], None] = lambda note: None
) -> tuple[F32, npt.NDArray[np.bool_]] | None:
    """(vectors float32 [readable, d], readable bool [images]) of a file, or None where it is not there or not right. `say` is
    called where it is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(unseal(path.read_bytes())), allow_pickle=False) as held:
            kept, vectors, readable = str(held["digest"]), held["vectors"], held["readable"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        say(f"{path}: damaged ({first_line(err)}); it is made again")
        return None
    right = (kept == digest, readable.shape == (images,), vectors.shape == (int(readable.sum()), dimension))
    return (vectors.astype(np.float32), readable.astype(np.bool_)) if all(right) else None


def save_embeddings(path: Path, digest: str, vectors: F32, readable: npt.NDArray[np.bool_]) -> None:
    """Write what load_embeddings reads, whole or not at all."""
    data = io.BytesIO()
    np.savez(data, digest=np.array(digest), vectors=vectors, readable=readable)
    write_bytes(path, seal(data.getvalue()))
