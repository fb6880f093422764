"""Everything plada raises on purpose.

* PladaError                     exit 1   something nobody planned for
  + RequestError                 exit 2   the request is wrong: an impossible option, a missing file
    - UnknownName                         no such data set, encoder, rule, student, index
    - BudgetTooSmall                      not even one label a class fits
    - MissingExtra                        an optional package is not installed
    - EncoderMissing                      no encoder is given, or none of its weights
  + PayloadError                 exit 3   the payload is bad
    - PayloadTruncated                    bytes are missing at the end
    - PayloadCorrupt                      bytes are wrong
    - PayloadUnsupported                  written by a newer plada
    - SideMissing                         needs the reference's manifest or a pack, which is not here
    - SignatureError                      not signed, not by the key asked for, or older than one seen before
  + ReferenceMismatch            exit 4   the images or the index here are not the ones meant
  + DataError                    exit 5   the data is bad: no readable image, a class without images
    - Unreadable                          one image that cannot be decoded
  + Interrupted                  exit 6   stopped half-way; the command to resume is in the message
  + ResourceError                exit 7   disk full, out of memory, locked by another process

A message says where, what was expected, what was found and what to do next. What a caller may want to act on is
an attribute, so nobody parses text.
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "pladata"  # the package index has another project under the name plada


def install_command(extra: str) -> str:
    """The command that installs an extra: from the clone or folder that this plada was installed from, else by its name on
    the package index."""
    source = _source_folder()
    if source is None:
        return f"pip install '{DISTRIBUTION}[{extra}]'"
    place = "." if source == Path.cwd() else str(source)
    return f"pip install '{place}[{extra}]'"


def _source_folder() -> Path | None:
    """The folder with pyproject.toml that this plada was installed from, or runs in."""
    from importlib.metadata import PackageNotFoundError, distribution  # 10 ms, only when something fails

    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").exists():
        return clone
    try:
        origin = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    if not isinstance(origin, dict):
        return None
    # https://packaging.python.org/en/latest/specifications/direct-url/: only folders have dir_info.
    folder = Path(unquote(urlsplit(str(origin.get("url", ""))).path)) if "dir_info" in origin else None
    return folder if folder is not None and (folder / "pyproject.toml").exists() else None


class PladaError(Exception):
    """Root of the tree. `exit_code` is the command line's exit status, `remedy` what helps against errors of a class.

    Examples:
        >>> import plada
        >>> try:
        ...     plada.read_payload("gone.plada")
        ... except plada.PladaError as error:
        ...     print(type(error).__name__)
        RequestError
    """

    exit_code: ClassVar[int] = 1
    remedy: ClassVar[str] = (
        "Look at the message. Where it is not one line that says what to do, it is a mistake of plada's: report it."
    )

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes hand their errors over; the default would call __init__ with the message alone.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[PladaError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PladaError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class RequestError(PladaError):
    """The request cannot be met as it was put."""

    exit_code = 2
    remedy = "Change the option or the file that the message names; `plada COMMAND --help` lists what there is."


class UnknownName(RequestError):
    """A name that nothing is registered under; lists what exists and the nearest name."""

    remedy = "Take one of the names that the message lists; it says which is nearest."

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        self.nearest = next(iter(difflib.get_close_matches(name, self.known, n=1, cutoff=0.5)), None)
        parts = [f"unknown {kind} '{name}'"]
        if self.nearest:
            parts.append(f"did you mean '{self.nearest}'?")
        parts.append(f"known: {', '.join(self.known)}" if self.known else f"there is no {kind} yet")
        super().__init__("; ".join(parts) + (f". {hint}" if hint else ""))


class BudgetTooSmall(RequestError):
    """Not even one label for each class fits into the budget."""

    remedy = "Give the budget that the message names, or a target of fewer classes."

    def __init__(self, *, budget: int, least: int, classes: int) -> None:
        self.budget, self.least, self.classes = budget, least, classes
        super().__init__(
            f"budget of {budget} bytes: one label for each of {classes} classes needs a file of {least} bytes. "
            f"Give --budget {least} or more"
        )


class MissingExtra(RequestError):
    """A package that this task needs and a bare installation does not have."""

    remedy = "Install the extra that the message names; `plada doctor` shows what is there."

    def __init__(self, *, package: str, extra: str, purpose: str, reason: str = "is not installed") -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"{purpose} needs {package}, which {reason}. Run: {install_command(extra)} "
            "(`plada doctor` shows what is there)"
        )


class EncoderMissing(RequestError):
    """An index needs an encoder that nothing names, or whose weights may not be downloaded. `encoder` is the one to
    ask for, a name as --encoder takes it; `megabytes` what its weights take, where that is known."""

    remedy = "Give `--encoder NAME --pretrained`, or set one for good: `plada config set encoder clip`."

    def __init__(self, message: str, *, encoder: str, megabytes: int | None) -> None:
        self.encoder, self.megabytes = encoder, megabytes
        super().__init__(message)


class PayloadError(PladaError):
    """The payload cannot be used."""

    exit_code = 3
    remedy = "Fetch the file again. If it stays so, ask the sender for a new one."


class PayloadTruncated(PayloadError):
    """The file ends before its header says it should."""

    remedy = "Fetch the file again; of a progressive one take what is whole with --partial."


class PayloadCorrupt(PayloadError):
    """The bytes contradict their checksum or the format."""

    remedy = "Fetch the file again and compare its size with the sender's; of a progressive one --partial takes what is whole."


class PayloadUnsupported(PayloadError):
    """Made by a newer plada, or with a part that this one does not know."""

    remedy = "Install the newest plada, or ask the sender for a file of an older version."


class SideMissing(PayloadError):
    """The bytes can be read only with the manifest of their reference, or with a pack; `needs` is "manifest" or "pack"."""

    remedy = "Say where the images are (--reference), or install the pack (`plada install-pack`); or ask for a file that needs neither."

    def __init__(self, message: str, *, needs: str) -> None:
        super().__init__(message)
        self.needs = needs


class SignatureError(PayloadError):
    """Not signed, not by the key that was asked for, or older than what was asked for."""

    remedy = "Get a signed file from the sender, and the public key by another way than the file."


class ReferenceMismatch(PladaError):
    """What lies here is not what was meant: other images, or an index of another encoder."""

    exit_code = 4
    remedy = "Point --reference at the right collection (`plada verify` says what differs); --same-keys accepts a resized copy."

    def __init__(self, message: str, *, wanted: str = "", found: str = "") -> None:
        super().__init__(message)
        self.wanted, self.found = wanted, found


class DataError(PladaError):
    """The data cannot serve: nothing readable, a class without images, two files with one key."""

    exit_code = 5
    remedy = "Mend or remove what the message names."


class Unreadable(DataError):
    """One image that cannot be decoded; the message is only the reason."""

    remedy = "Restore the image from its source; or leave it out, its position stays."


class Interrupted(PladaError):
    """Stopped half-way with everything finished so far kept."""

    exit_code = 6
    remedy = "Run the command that the message names: it goes on where it was stopped."

    def __init__(self, message: str, *, resume: str) -> None:
        super().__init__(f"{message}. Resume with: {resume}")
        self.resume = resume


class ResourceError(PladaError):
    """Disk full, out of memory, or another process holds what is needed."""

    exit_code = 7
    remedy = "Free disk or memory, lower the batch size, or wait for the other process; then run again."
