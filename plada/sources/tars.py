"""A folder of tar files, one a synset, as the official ImageNet-21K comes: read in place, never unpacked."""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plada.errors import DataError
from plada.sources.collection import canonical_order, is_image_name, key_of


@dataclass(frozen=True, slots=True)
class TarCollection:
    """Images inside the tars of a folder; the key is TAR NAME/MEMBER, without both extensions."""

    root: Path
    keys: Any
    sizes: npt.NDArray[np.int64]
    tars: tuple[str, ...]
    tar_of: npt.NDArray[np.uint32]  # [N], index into tars
    offsets: npt.NDArray[np.int64]  # [N], where the member's bytes begin

    @property
    def location(self) -> str:
        return str(self.root)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, position: int) -> bytes:
        path = self.root / self.tars[int(self.tar_of[position])]
        size = int(self.sizes[position])
        try:
            with path.open("rb") as tar:
                tar.seek(int(self.offsets[position]))
                data: bytes = tar.read(size)
        except OSError as err:
            raise DataError(f"{path}: listed but cannot be read ({err.strerror}). Restore it or list again") from err
        if len(data) != size:
            raise DataError(
                f"{path}: ends inside {self.keys[position]}; it is shorter than when listed. Restore the file"
            )
        return data


def has_tars(root: Path) -> bool:
    """Whether a folder is a collection of tars.

    Raises:
        DataError: there are tars, and folders or images beside them: it is not clear which of them is meant.
    """
    if not any(root.glob("*.tar")):
        return False
    others = [path for path in root.iterdir() if path.is_dir() or is_image_name(path.name)]
    mixed = sorted(path.name for path in others if not path.name.startswith("."))
    if mixed:
        raise DataError(
            f"{root}: holds tar files and also {mixed[0]}; only one of them can be the collection. Move one away"
        )
    return True


def open_tars(root: Path) -> TarCollection:
    """Walk the headers of every tar in a folder.

    Raises:
        DataError: no image, two members with one key, a tar that is cut, concatenated or not a tar.
    """
    tars = tuple(sorted(path.name for path in root.glob("*.tar")))
    places: list[str] = []
    keys: list[str] = []
    rows: list[tuple[int, int, int]] = []
    for number, name in enumerate(tars):
        for member, offset, size in _members(root / name):
            places.append(f"{name}:{member}")
            keys.append(f"{name.removesuffix('.tar')}/{key_of(member)}")
            rows.append((number, offset, size))
    order = canonical_order(keys, places, str(root))
    table = np.asarray(rows, np.int64)[order]
    return TarCollection(
        root=root.absolute(),
        keys=pa.array([keys[i] for i in order], pa.string()),
        sizes=np.ascontiguousarray(table[:, 2]),
        tars=tars,
        tar_of=table[:, 0].astype(np.uint32),
        offsets=np.ascontiguousarray(table[:, 1]),
    )


def _members(path: Path) -> list[tuple[str, int, int]]:
    """(name, offset of the bytes, size) of every image of one tar, after checking that the tar is whole."""
    try:
        with tarfile.open(path, "r:") as tar:
            found = [
                (member.name.removeprefix("./"), member.offset_data, member.size)
                for member in tar
                if member.isfile() and is_image_name(member.name.rpartition("/")[2])
            ]
            end = tar.offset
    except (tarfile.TarError, EOFError) as err:
        raise DataError(f"{path}: not a whole tar file ({err}). Fetch it again") from err
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror}). Mend its permissions") from err
    # tarfile stops without a word at a cut between members and at the first of two concatenated archives.
    with path.open("rb") as raw:
        raw.seek(end)
        tail = raw.read(2 * tarfile.BLOCKSIZE)
        if len(tail) < 2 * tarfile.BLOCKSIZE or any(tail):
            raise DataError(f"{path}: ends without the end-of-archive mark; it was cut. Fetch it again")
        while block := raw.read(1 << 20):
            if any(block):
                raise DataError(
                    f"{path}: something follows its end-of-archive mark; it is several tars in one. Split it"
                )
    return found
