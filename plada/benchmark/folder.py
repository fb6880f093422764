"""The output folder of a benchmark: it holds the rows of one run, and other runs are refused."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from plada.benchmark.students import StudentPlan
from plada.common.files import write_json
from plada.encoders.encoder import config_from_json
from plada.errors import RequestError
from plada.labeler.teachers import TeacherSpec
from plada.networks.network import file_digest
from plada.payload.pack import read_pack
from plada.retrieval.index import Index
from plada.sources.targets.target import Split, Target
from plada.trainer.run import LINEAR

_IDENTITY = "bench.json"
_FORMAT = 1


def claim(folder: Path, run: Mapping[str, Any], targets: Mapping[str, str]) -> None:
    """Make `folder` that of this run, or check that it is. `run` is its identity, `targets` are digests of the targets
    by name; other targets may join later. Raises RequestError: it holds another run, other images under a target's
    name, or something else."""
    place = folder / _IDENTITY
    known: dict[str, str] = {}
    if place.exists():
        try:
            there = json.loads(place.read_text())
            known = dict(there.pop("targets"))
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise RequestError(f"{place}: not written by `plada bench`. Name another --out") from err
        mine = json.loads(json.dumps({"format": _FORMAT, **run}))
        different = next((name for name in sorted(mine.keys() | there.keys()) if mine.get(name) != there.get(name)), None)  # fmt: skip
        if different is not None:
            raise RequestError(
                f"{folder}: holds a benchmark with {different} {_short(there.get(different))}; this one has "
                f"{_short(mine.get(different))}. Name another --out, or delete it"
            )
        for name, digest in targets.items():
            if known.get(name, digest) != digest:
                raise RequestError(
                    f"{folder}: holds rows of target {name} with other images. Name another --out, or restore the target"
                )
    elif folder.exists() and any(folder.iterdir()):
        raise RequestError(f"{folder}: holds something that is no benchmark. Name another --out, a new or empty folder")
    write_json(place, {"format": _FORMAT, **run, "targets": {**known, **targets}})


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def run_identity(
    index: Index, student: StudentPlan, packs: bool, pack: Path | None, teacher: TeacherSpec | None = None
) -> dict[str, Any]:
    """Everything that decides the numbers of a run, in plain values. `pack` is None where a pack is made for the run."""
    network = student.network
    options = {
        "weights": file_digest(Path(network.weights)) if network.weights else None,
        "pretrained": network.pretrained,
        "model_args": dict(network.model_args),
        "image_size": network.image_size,
        "recipe": dict(student.recipe),
    }
    labelled_by = (
        {
            "names": teacher.names if isinstance(teacher.names, str) else list(teacher.names),
            "weights": file_digest(Path(teacher.weights)) if teacher.weights else None,
            "model_args": dict(teacher.model_args or {}),
            "image_size": teacher.image_size,
        }
        if teacher is not None
        else None
    )
    return {
        "index": {name: index.info[name] for name in ("key_id", "content_id")},
        "encoder": config_from_json(index.info["encoder"]).settings(),
        "student": network.name,
        **({"student_options": options} if network.name != LINEAR else {}),
        **({"teacher": labelled_by} if labelled_by is not None else {}),
        **({"pack": read_pack(pack).pack_id.hex() if pack is not None else "made here"} if packs else {}),
    }


def target_digest(target: Target) -> str:
    """Hash of a target's classes and of the stored images of all its splits, however train and validation were drawn."""
    whole = blake3("\0".join(target.classes).encode())
    test = [target.test] if target.test is not None else []
    parts = [
        sorted(line for split in splits for line in _lines(split))
        for splits in ([target.train, target.validation], test)
    ]
    whole.update("\n\n".join("\n".join(part) for part in parts).encode())
    return whole.hexdigest(16)


def _lines(split: Split) -> Iterator[str]:
    """The label and the content hash of each image."""
    for position, label in zip(split.positions.tolist(), split.labels.tolist(), strict=True):
        yield f"{label} {blake3(split.collection.read(position)).hexdigest(16)}"
