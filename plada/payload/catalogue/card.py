"""The card of a catalogue: README.md for people, with the metadata that the Hub reads at its head."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from plada.common.text import visible
from plada.common.units import format_size
from plada.payload.catalogue.document import Catalogue, Task

CARD = "README.md"
MARK = "<!-- written by plada publish -->"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&-])")
_LONGEST = 200  # letters of a text in the table


def write_card(catalogue: Catalogue, where: str) -> bytes:
    """The card. `where` is the address that clients pull from. The same catalogue gives the same bytes."""
    images = sum(task.history[0].images for task in catalogue.tasks.values() if task.history)
    meta = {
        "annotations_creators": ["machine-generated"],
        "pretty_name": catalogue.name,
        "size_categories": [next((name for most, name in _SIZES if images < most), "10M<n<100M")],
        "tags": ["plada", "pseudo-labels"],
        "task_categories": ["image-classification"],
        "viewer": False,
    }
    signed = f"signed with the Ed25519 key `{catalogue.keys[-1].key.hex()}`" if catalogue.keys else "not signed"
    lines = [
        "---",
        # A string or a list of JSON is one of YAML, whatever its letters.
        *(f"{name}: {json.dumps(value)}" for name, value in meta.items()),
        "---",
        MARK,
        "",
        f"# {catalogue.name}",
        "",
        "Classification tasks as pseudo-labels for images of a reference collection that every client holds: a catalogue of",
        f"plada, serial number {catalogue.serial}, {signed}.",
        "",
        "```sh",
        f"plada pull {where}         # what there is",
        f"plada pull {where}/TASK    # the newest version of a task, and later what has changed",
        "plada train TASK --reference REFERENCE",
        "```",
        "",
        "Compare the key with what its owner says, by another way than this page; plada remembers it from then on.",
        "",
        *_table(
            ("task", "version", "classes", "images", "bytes", "reference", "teacher", "forecast", "terms"),
            [_row(name, task) for name, task in catalogue.tasks.items()],
        ),
        "",
        *_table(
            ("reference", "images", "key id", "content id"),
            [[name, str(each.images), each.key_id, each.content_id] for name, each in catalogue.references.items()],
        ),
        "",
        "The labels are a teacher's, not people's. The images are not here: they stay under the terms of their collection.",
        "",
    ]
    return "\n".join(lines).encode()


def is_card_of_ours(data: bytes) -> bool:
    """Whether a README.md was written by plada, so that it may be replaced."""
    return MARK.encode() in data


def _row(name: str, task: Task) -> list[str]:
    newest = task.history[0] if task.history else None
    about = task.about
    return [
        name, str(task.version),
        *((str(newest.classes), str(newest.images)) if newest is not None else ("", "")),
        format_size(min(form.bytes for form in task.forms)), task.reference,
        _said(about, "teacher", "teacher_accuracy"), _said(about, "forecast", "forecast_interval"), _said(about, "licence"),
    ]  # fmt: skip


def _said(about: Mapping[str, Any], *names: str) -> str:
    """What is said of a task, on one line, as plain text."""
    texts = [_plain(about[name]) for name in names if about.get(name) not in (None, "")]
    return _MARKDOWN.sub(r"\\\1", visible(", ".join(texts))[:_LONGEST])


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1%}"
    if isinstance(value, list):
        return " to ".join(map(_plain, value))
    return str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
