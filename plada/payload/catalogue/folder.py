"""The folder of a catalogue, as its server writes it: a reader sees the old catalogue or the new one.

What is named by its content is written first and removed last. The files that name others (those of the tasks, `catalogue` and
`catalogue.json`) are all on the disk before the first of them takes its name. So whichever of them a reader has, it is whole, and the
files that it speaks of are there; and a disk that fills leaves the old catalogue.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from plada.common.checksums import short_digest, short_file_digest
from plada.common.files import local_place, one_writer, whole_file, write_bytes
from plada.common.outputs import raise_output_error
from plada.errors import PladaError, RequestError
from plada.payload.catalogue.document import (
    Catalogue,
    StoredFile,
    read_catalogue,
    read_head,
    write_catalogue,
    write_head,
)
from plada.payload.catalogue.envelope import (
    read_envelope,
    read_json_envelope,
    seal,
    write_envelope,
    write_json_envelope,
)
from plada.payload.signature import SigningKey

JSON, WHOLE, TASKS, FILES = "catalogue.json", "catalogue", "tasks", "files"


@contextmanager
def one_publisher(folder: str | Path) -> Iterator["CatalogueFolder"]:
    """The folder, kept to this process; another publisher of this machine is waited for.

    Raises:
        RequestError: an address, or something else than a folder is there. ResourceError: it cannot be written.
    """
    text = local_place(folder)
    if "://" in text:
        raise RequestError(f"{folder}: expected a folder of this machine. Publish into one, and copy it there as it is")
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise RequestError(f"{path}: is no folder. Name the catalogue's folder, or a new one")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with one_writer(path / ".publish"):
            yield CatalogueFolder(path)
    except OSError as err:
        raise_output_error(path, err)


class CatalogueFolder:
    """A catalogue on a disk, to be read and replaced by one process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Catalogue | None:
        """The catalogue that is there, its signature compared; None where there is none yet.

        Raises:
            PayloadError: it is damaged, or of a newer format.
        """
        file = self.path / JSON
        if not file.exists():
            if any((self.path / name).exists() for name in (WHOLE, TASKS)):
                raise RequestError(
                    f"{file}: is gone, and the rest of a catalogue is there. Restore it, or remove the rest"
                )
            return None
        envelope = read_json_envelope(file.read_bytes(), str(file))
        envelope.check(str(file))
        catalogue = read_catalogue(envelope.value(str(file)), str(file))
        if (catalogue.keys[-1].key if catalogue.keys else None) != envelope.key:
            raise RequestError(f"{file}: is not signed by the last of its keys. Restore it")
        return catalogue

    def last_serial(self) -> int:
        """The highest serial that any file here has: after a publication that was stopped it is above that of catalogue.json."""
        serials = [0]
        for file in (self.path / WHOLE, *sorted((self.path / TASKS).glob("*"))):
            with suppress(PladaError, OSError):  # what is damaged, or not ours, is no reader's serial either
                value = read_envelope(file.read_bytes(), str(file)).value(str(file))
                serials.append(read_head(value, "").serial if "task" in value else read_catalogue(value, "").serial)
        return max(serials)

    def file(self, name: str) -> Path:
        """Where a file lies that is named by its content."""
        return self.path / FILES / name

    def store(self, data: bytes) -> StoredFile:
        """Keep bytes under the name of their content."""
        name = short_digest(data)
        if not self._holds(name, len(data)):
            write_bytes(self.file(name), data)
        return StoredFile(file=name, bytes=len(data))

    def store_file(self, path: Path, *, url: str = "") -> StoredFile:
        """Keep a large file likewise; with `url` it is to be had there, and only hashed here."""
        name, size = short_file_digest(path), path.stat().st_size
        if not url and not self._holds(name, size):
            with whole_file(self.file(name)) as part:
                shutil.copyfile(path, part)
        return StoredFile(file=name, bytes=size, url=url)

    def write(self, old: Catalogue | None, new: Catalogue, key: SigningKey | None) -> None:
        """Replace the catalogue. Files that neither the old nor the new one speaks of are removed: whoever is reading the old one
        still finds all of it."""
        heads = {
            f"{TASKS}/{task}": write_envelope(seal(write_head(new.head_of(task)), key)) for task in sorted(new.tasks)
        }
        whole = seal(write_catalogue(new), key)
        self._replace({**heads, WHOLE: write_envelope(whole), JSON: write_json_envelope(whole)})
        for file in (self.path / TASKS).glob("*"):
            if file.name not in new.tasks:
                file.unlink(missing_ok=True)
        kept = new.files() | (old.files() if old is not None else set())
        for file in (self.path / FILES).glob("*"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def _replace(self, files: dict[str, bytes]) -> None:
        """Give files their names one by one, in order, when all of them are on the disk."""
        parts = [
            (self.path / f".publish.{number}.part", name, data) for number, (name, data) in enumerate(files.items())
        ]
        try:
            (self.path / TASKS).mkdir(exist_ok=True)
            for part, _, data in parts:
                with part.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            for part, name, _ in parts:
                part.replace(self.path / name)
        except OSError as err:
            raise_output_error(self.path, err)
        finally:
            for part, _, _ in parts:
                with suppress(OSError):
                    part.unlink(missing_ok=True)

    def _holds(self, name: str, size: int) -> bool:
        """Whether a file is there, whole."""
        file = self.file(name)
        return file.is_file() and file.stat().st_size == size and short_file_digest(file) == name


def same_but_for_serial(one: Catalogue, other: Catalogue) -> bool:
    """Whether two catalogues say the same but for their serials."""
    return replace(one, serial=0) == replace(other, serial=0)
