"""Model files: tensors as safetensors, with a card among the metadata that says how to build and read the model."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plada.common.checksums import NO_DIGEST, fill_digest, has_digest
from plada.common.files import whole_file
from plada.common.version import __version__
from plada.errors import DataError, RequestError
from plada.payload.calibration import Calibration, calibration_of_card

if TYPE_CHECKING:
    import torch

_CARD = "plada"  # name of the card among a safetensors file's metadata
_DIGEST = b'\\"checksum\\": \\"'  # what stands before the checksum in the file: the card is text within JSON
_MAX_HEADER = 100 << 20  # bytes; safetensors' own limit


def save_model(path: Path, state: "Mapping[str, torch.Tensor]", card: Mapping[str, Any]) -> None:
    """Write tensors and a card, to which the versions of packages and a checksum of the file are added; whole or not at all."""
    import safetensors.torch

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    text = json.dumps({**card, "versions": _versions(), "checksum": NO_DIGEST}, sort_keys=True)
    with whole_file(path) as part:
        # Only one entry: safetensors writes several in a random order.
        # In memory first: safetensors' own errors do not say that a disk is full, and its files are for their owner alone.
        part.write_bytes(safetensors.torch.save(stored, metadata={_CARD: text}))
        fill_digest(part, _DIGEST)


def check_model(path: Path) -> None:
    """Compare a model's checksum with its bytes: a network with one wrong weight still answers, and nothing else would tell.

    Raises:
        DataError: it is damaged.
    """
    if not has_digest(path, _DIGEST):
        raise DataError(f"{path}: its checksum is wrong; the model is damaged. Copy it again, or train again")


def read_card(path: Path) -> dict[str, Any]:
    """The card of a model that plada wrote; only the file's header is read. Raises RequestError: no such file.
    DataError: plada did not write it."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = file.read(size) if size <= _MAX_HEADER else b""
        card = json.loads(json.loads(header)["__metadata__"][_CARD])
        classes = card["classes"]
        if not isinstance(card["network"], str) or not classes or not isinstance(classes, list):
            raise TypeError("network")
        if not all(isinstance(name, str) for name in classes):
            raise TypeError("classes")
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror}). Name a model that `plada train` wrote") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise DataError(f"{path}: not a model that `plada train` wrote (no card in it)") from err
    return dict(card)


def read_calibration(path: Path, card: Mapping[str, Any]) -> Calibration | None:
    """The calibration in the card of the model at `path`. Raises DataError: it is not what plada writes."""
    try:
        return calibration_of_card(card)
    except ValueError as err:
        raise DataError(f"{path}: its card has no valid {err}, as plada writes it. Train it again") from err


def _versions() -> dict[str, str]:
    versions = {"plada": __version__, "python": platform.python_version()}
    for name in ("torch", "timm", "numpy", "pillow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
