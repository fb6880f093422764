"""The commands as Python calls: each reads like the algorithm, one call a step.

The server half (indexer, retrieval, labeler, selection) is imported inside the functions that need it, so that a
client reads, trains and exports with neither FAISS nor LanceDB installed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plada.errors import DataError, RequestError, UnknownName
from plada.extras import require
from plada.files import home_directory
from plada.payload.payload import Payload
from plada.progress import Clock, Report, silent
from plada.reading import Around, open_payload
from plada.signing import check_serial
from plada.sources.datasets import DatasetSummary, list_datasets
from plada.sources.reference import Reference, check_identity, find_reference, open_reference, plain_name
from plada.sources.registry import open_source, open_target
from plada.trainer.export import EXPORTS
from plada.trainer.student import TrainingSummary


def train(
    payload: Payload | str | Path,
    *,
    reference: str | Path | None = None,
    student: str = "resnet18",
    weights: str | Path | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    target: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    same_keys: bool = False,
    pack: str | Path | None = None,
    partial: bool = False,
    update: Sequence[str | Path] = (),
    require_signature: str | Path | None = None,
    min_serial: int = 0,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> TrainingSummary:
    """Train a student on the images and labels of a payload, and test it on `target` if one is named.

    `reference` is the client's own copy (a name or a path); without one, a collection known here that fits. `student`
    is `small_cnn` or any timm network, from nothing unless `weights` (safetensors) or `pretrained` is given. Options
    in `recipe` win over the payload's, which win over the network's defaults. The model goes to `out` if given. `pack`,
    `partial`, `update`, `require_signature` and `min_serial` are as for `read_payload`.

    Raises:
        PayloadError: the payload is bad, or not signed as required. ReferenceMismatch: it labels other images. UnknownName: no such student.
    """
    from plada.networks import build_network, seed_everything
    from plada.trainer.data import labelled_images
    from plada.trainer.loop import fit
    from plada.trainer.recipe import default_recipe
    from plada.trainer.student import Student, check_classes, evaluate, view_of

    clock, root = Clock(), home_directory(home)
    read = _read(
        payload, Around(home=root, reference=reference, pack=pack), partial, update, require_signature, min_serial
    )
    if not len(read):
        raise DataError(f"{payload if not isinstance(payload, Payload) else 'payload'}: holds no label to train on")
    require("torch", extra="client", purpose="training")  # said before a million images are hashed
    followed = (
        default_recipe(student, trained=bool(weights or pretrained)).changed(_recommended(read)).changed(recipe or {})
    )
    with clock("load"):
        task = open_target(target, root) if target is not None else None
        if task is not None:
            check_classes(read.classes, task.classes, task.name)
        images = _reference_of(read, reference, root, same_keys, report)
        seed_everything(seed)
        network = build_network(
            student,
            classes=len(read.classes),
            weights=Path(weights) if weights else None,
            pretrained=pretrained,
            model_args=model_args,
            image_size=image_size or followed.image_size or None,
        )
    with clock("read"):
        view = view_of(network, supersample=followed.supersample)
        labelled = labelled_images(
            images.read, read.positions, read.labels, view, where=images.collection.location, report=report
        )
    with clock("train"):
        fit(network, labelled, recipe=followed, seed=seed, device=device, report=report)
    trained = Student(network, read.classes, followed)
    with clock("test"):
        split = task.test if task is not None else None
        accuracy = evaluate(network, split, stage="test", device=device, report=report) if split is not None else None
    if out is not None:
        trained.save(Path(out))
    return TrainingSummary(
        student=student,
        images=labelled.used(),
        classes=len(read.classes),
        epochs=followed.epochs,
        seed=seed,
        target=task.name if task is not None else None,
        accuracy=accuracy,
        target_note=task.note if task is not None else "",
        model=str(out) if out is not None else None,
        reference=images.collection.location,
        same_content=images.manifest.content_id[:8] == read.content_id[:8],
        segments=read.segments,
        serial=read.serial,
        seconds=clock.seconds,
    )


def export(
    payload: Payload | str | Path,
    *,
    to: str,
    out: str | Path,
    reference: str | Path | None = None,
    same_keys: bool = False,
    pack: str | Path | None = None,
    partial: bool = False,
    update: Sequence[str | Path] = (),
    require_signature: str | Path | None = None,
    min_serial: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> Path:
    """Hand the labelled set to another framework: `to` is csv, parquet (tables of keys and labels) or folder.

    `pack`, `partial`, `update`, `require_signature` and `min_serial` are as for `read_payload`.

    Raises:
        UnknownName: no such form. RequestError: `out` cannot be made. Others as `train` raises.
    """
    if to not in EXPORTS:
        raise UnknownName("export form", to, EXPORTS)
    around = Around(home=home_directory(home), reference=reference, pack=pack)
    read = _read(payload, around, partial, update, require_signature, min_serial)
    images = _reference_of(read, reference, around.home, same_keys, report)
    EXPORTS[to](read, images, Path(out), report)
    return Path(out)


def datasets(name: str | None = None, *, check: bool = False, home: str | Path | None = None) -> list[DatasetSummary]:
    """Every registered collection (or the one called `name`), and how it is on this machine.

    `check` opens each one that is here and counts its images and classes; without it only stored counts are compared.

    Raises:
        UnknownName: no such name.
    """
    return list_datasets(home_directory(home), name=name, check=check)


def open_images(reference: str | Path, *, home: str | Path | None = None, report: Report = silent) -> Reference:
    """A reference on this machine: its keys, its manifest, and its images by position, hashes compared."""
    root = home_directory(home)
    collection = open_source(reference, root)
    return open_reference(plain_name(collection.location), collection, root, report=report)


def _read(
    payload: Payload | str | Path,
    around: Around,
    partial: bool,
    update: Sequence[str | Path],
    require_signature: str | Path | None,
    min_serial: int,
) -> Payload:
    """The payload, read if it is not yet; one that was read by the caller can be asked no more who signed it."""
    if not isinstance(payload, Payload):
        return open_payload(
            payload, around, partial=partial, update=update, require_signature=require_signature, min_serial=min_serial
        ).payload
    if require_signature is not None or update:
        raise RequestError("a payload that was read already: give its path, or these options to read_payload")
    check_serial(payload.serial, min_serial, "payload")
    return payload


def _recommended(payload: Payload) -> Mapping[str, Any]:
    advice = payload.notes.get("recipe", {})
    return advice if isinstance(advice, dict) else {}


def _reference_of(
    payload: Payload, reference: str | Path | None, home: Path, same_keys: bool, report: Report
) -> Reference:
    """The client's copy of the reference, after its identity was compared with the payload's."""
    spec = reference if reference is not None else find_reference(payload.key_id, home)
    if spec is None:
        raise RequestError(
            f"no collection known here has the payload's key id {payload.key_id.hex()}. Say where its "
            f"{payload.reference} images are: --reference NAME or PATH"
        )
    found = open_images(spec, home=home, report=report)
    check_identity(found, images=payload.reference, key=payload.key_id, content=payload.content_id, same_keys=same_keys)
    return found
