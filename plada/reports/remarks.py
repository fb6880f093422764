"""The sentences of a report: what the payload is, what a person should hear before sending it, what is not known."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plada.common.version import __version__
from plada.errors import DataError, PladaError, RequestError
from plada.payload.inspect import PayloadSummary
from plada.payload.payload import Payload
from plada.reports.command_line import command_line
from plada.reports.findings import ClassFacts, few_images
from plada.selection.corrections import read_keys, read_labels
from plada.selection.nearness import FAR
from plada.selection.table import SelectionTable
from plada.trainer.model_file import read_card
from plada.trainer.payload_file import fetch
from plada.trainer.payload_images import PayloadImages
from plada.trainer.run import payload_digest


@dataclass(frozen=True, slots=True)
class EarlierCorrections:
    """Corrections that the selection was already made with: the next lists must hold them too."""

    excluded: tuple[str, ...] = ()
    relabelled: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def earlier_corrections(asked: Mapping[str, Any], classes: tuple[str, ...]) -> EarlierCorrections:
    """What `exclude` and `relabel` of the selection hold, as far as the files are still there."""
    excluded: list[str] = []
    relabelled: list[tuple[str, str]] = []
    problems = []
    try:
        if path := asked.get("exclude"):
            excluded = read_keys(Path(str(path)))
        if path := asked.get("relabel"):
            keys, labels = read_labels(Path(str(path)), classes)
            relabelled = [(key, classes[label]) for key, label in zip(keys, labels.tolist(), strict=True)]
    except (RequestError, DataError) as err:
        problems.append(f"Corrections of before are not in the lists that this page writes ({err}). Add them by hand.")
    return EarlierCorrections(tuple(excluded), tuple(relabelled), tuple(problems))


def identity(
    file: str | Path,
    home: Path,
    summary: PayloadSummary,
    payload: Payload | None,
    images: PayloadImages | None,
    said: Mapping[str, Any],
    model: str | Path | None,
) -> tuple[tuple[str, str], ...]:
    """What the payload is beyond doubt: (what, value) by row; `said` is the report of its selection."""
    rows = [
        ("file", str(file)),
        ("SHA-256 of the file", hashlib.sha256(fetch(file, home)).hexdigest()),
        ("digest of the content", payload.digest().hex() if payload is not None else ""),
        ("format", f"payload version {summary.version}"),
        ("serial number", str(summary.serial) if summary.serial else "none"),
        ("signature", f"by key {summary.signed_by}, not checked here" if summary.signed else "none"),
        ("coder", summary.coder or ""),
        ("segments", str(summary.segments[1]) if summary.segments else ""),
        ("reference", f"{summary.reference} images"),
        ("key id of the reference", summary.key_id),
        ("content id of the reference", summary.content_id),
        ("pack", summary.pack_id or ""),
        ("reference here", images.location if images is not None else ""),
        ("rule", said.get("rule", "")),
        ("teacher", (said.get("teacher") or {}).get("kind", "")),
        ("model", str(model or "")),
        ("written by", f"plada {__version__}"),
    ]
    return tuple((name, str(value)) for name, value in rows if value)


def commands(
    file: str | Path, options: Mapping[str, Any], reference: str | Path | None, asked: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """(what it does, line of the shell): this report, training, and the selection if `asked` says what it was asked for."""
    lines = [
        ("write this report again", command_line("report", [str(file)], options)),
        ("train on them", command_line("train", [str(file)], {"reference": reference})),
    ]
    if asked:
        corrected = {**asked, "exclude": "exclude.txt", "relabel": "relabel.csv"}
        correct = "choose with your corrections (leave out a list that you do not have)"
        lines[:0] = [
            ("choose these images again", command_line("select", [], asked)),
            (correct, command_line("select", [], corrected)),
        ]
    return tuple(lines)


def remarks(
    summary: PayloadSummary,
    said: Mapping[str, Any],
    payload: Payload | None,
    images: PayloadImages | None,
    model: str | Path | None,
) -> tuple[str, ...]:
    """What a person should hear before sending; `said` is the report of the selection."""
    lines = []
    if empty := said.get("empty_classes"):
        named = ", ".join(map(str, empty))
        lines.append(f"The teacher calls no image of the reference {named}: students cannot learn it.")
    elif payload is not None and (
        bare := [name for name, count in zip(summary.names, payload.class_counts(), strict=True) if not count]
    ):
        named = ", ".join(bare[:5]) + (f" and {len(bare) - 5} more" if len(bare) > 5 else "")
        lines.append(f"No image is labelled {named}: students cannot learn it.")
    if leaks := said.get("leaks"):
        lines.append(
            f"{len(leaks)} chosen images are near copies of test images of the target; select --drop-leaks leaves them out."
        )
    nearness = said.get("nearness")
    ratio = nearness.get("ratio") if isinstance(nearness, dict) else None
    if isinstance(ratio, (int, float)) and ratio >= FAR:
        lines.append(
            f"The reference has few images like the target's: they are {ratio:.2f} times as far from it as its own images are "
            "from each other. Students may lose much of the teacher's accuracy."
        )
    for name, lead in (
        ("rule_note", "Rule: "),
        ("target_note", "Target: "),
        ("leaks_note", "Not compared with test images: "),
    ):
        if said.get(name):
            lines.append(f"{lead}{said[name]}.")
    lines += [f"{line}." for line in said.get("remarks") or () if isinstance(line, str)]
    if model is not None and payload is not None and not _trained_on(model, payload):
        lines.append(f"The model {Path(str(model)).name} was not trained on this payload.")
    if images is not None and images.lost:
        lines.append(
            f"{len(images.lost)} of the images looked at are missing here or have changed since the manifest was made."
        )
    if images is not None and payload is not None and not images.manifest.content_id.startswith(payload.content_id):
        lines.append("The pictures are of a copy with other bytes than the payload's reference (--same-keys).")
    return tuple(lines)


def thin_classes(classes: Sequence[ClassFacts]) -> tuple[str, ...]:
    """A sentence about classes that have few images, if there are any."""
    thin = sorted((each for each in classes if each.few and each.after), key=lambda each: each.after or 0)
    if not thin:
        return ()
    named = ", ".join(f"{each.name} ({each.after})" for each in thin[:5])
    more = f" and {len(thin) - 5} more" if len(thin) > 5 else ""
    least = few_images([each.after for each in classes if each.after is not None])
    return (f"Few images, under {least}, are labelled {named}{more}: students learn them less well than others.",)


def _trained_on(model: str | Path, payload: Payload) -> bool:
    try:
        return bool(read_card(Path(model)).get("run", {}).get("payload") == payload_digest(payload))
    except PladaError:
        return False


def unknown(
    summary: PayloadSummary, table: SelectionTable | None, no_pictures: str, *, budget: bool, model: bool
) -> tuple[str, ...]:
    """What the report cannot say, and what to give for it; `budget` and `model`: whether they were given."""
    lines = []
    if summary.missing:
        lines.append(f"Which images, and their labels: {summary.missing}")
    elif no_pictures:
        lines.append(f"Pictures: {no_pictures}")
    if table is None:
        more = "" if budget else ", the budget"
        lines.append(
            f"Scores, class counts before the choice, the forecast{more}: no payload carries them. Write the selection's "
            "table with plada select --table FILE, and give it: --selection FILE"
        )
    elif not table.report:
        lines.append("The table says nothing of how it was made: another program has written it again")
    if not model:
        lines.append("The accuracy that was reached: train a student, and give it with --model and --target")
    return tuple(lines)
