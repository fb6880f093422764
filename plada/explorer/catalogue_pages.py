"""The pages of catalogues: what each offers, the versions of a task, and the images that a version changed."""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from plada.common.units import format_size, format_time
from plada.explorer.catalogues import ShownCatalogue
from plada.explorer.components import facts, note, table
from plada.explorer.gallery import Gallery
from plada.explorer.pages import grid_of, whole_page
from plada.payload.catalogue.document import Task, Version
from plada.reports.text import digits, esc, many, name

_SHOWN = 60  # images of each kind of change
_ABOUT = ("target", "teacher", "teacher_accuracy", "forecast", "forecast_interval", "rule", "licence")


def catalogue_list(gallery: Gallery) -> str:
    """The catalogues that were given, each with its tasks."""
    parts = [_catalogue(number, shown) for number, shown in enumerate(gallery.catalogues)]
    none = "<p>None was named. To see what a catalogue offers, name it: <code>plada explore NAME --catalogue WHERE</code>.</p>"
    return whole_page(gallery, "Catalogues", f"<h1>Catalogues</h1>{''.join(parts) or none}")


def task(gallery: Gallery, number: int, wanted: str) -> str:
    """One task of a catalogue: what it is, its forms, its versions. Raises KeyError: there is none."""
    shown = gallery.catalogues[number]
    entry = shown.catalogue.tasks[wanted]
    said = [
        (each.replace("_", " "), esc(str(entry.about[each]), 200))
        for each in _ABOUT
        if entry.about.get(each) is not None
    ]
    rows = [
        ("catalogue", f'<a href="/catalogues">{name(shown.name)}</a>'),
        (
            "reference",
            f"{name(entry.reference)}{'' if _is_here(gallery, entry) else ', which is not that of this index'}",
        ),
        *said,
    ]
    forms = [
        [_needs(each.needs, each.pack, each.progressive), format_size(each.bytes), esc(each.coder)]
        for each in entry.forms
    ]
    changes = [
        [_old(entry, each.old), _needs(each.needs, each.pack, False), format_size(each.bytes)] for each in entry.changes
    ]
    versions = [_version(number, wanted, each) for each in entry.history]
    main = (
        f"<h1>{name(wanted)}</h1>{facts(rows)}<h2>Versions</h2>"
        f"{table(('version', 'images', 'classes', 'bytes', 'serial number', 'what it changed'), versions)}"
        f"<h2>Forms</h2>{table(('what clients have', 'bytes', 'coder'), forms)}"
    )
    if changes:
        main += f"<h2>Changes to version {entry.version}</h2>{table(('from version', 'what clients have', 'bytes'), changes)}"
    return whole_page(gallery, f"{wanted} of {shown.name}", main)


def version(gallery: Gallery, number: int, wanted: str, count: int) -> str:
    """The images that a version of a task changed. Raises KeyError: there is no such task or version."""
    shown = gallery.catalogues[number]
    entry = shown.catalogue.tasks[wanted]
    found = next((each for each in entry.history if each.version == count), None)
    if found is None:
        raise KeyError(count)
    where = f'<a href="{_address(number, wanted)}">{name(wanted)}</a> of {name(shown.name)}'
    lead = f"<h1>Version {count}</h1><p>{where}: {many(found.images, 'image')} of {many(found.classes, 'class')} in {format_size(found.bytes)}.</p>"
    changes = shown.changes(entry, found)
    if changes is None:
        why = (
            "the first version that is kept"
            if found is entry.history[-1]
            else "one of the two versions cannot be read here"
        )
        return whole_page(
            gallery, f"{wanted}, version {count}", lead + note([f"What it changed cannot be shown: it is {why}."])
        )
    if not _is_here(gallery, entry):
        counts = f"{len(changes.added)} images added, {len(changes.removed)} removed, {len(changes.relabelled)} called otherwise"
        return whole_page(
            gallery,
            f"{wanted}, version {count}",
            lead + note([f"{counts}. They are of another reference than this index."]),
        )
    parts = [
        _strip(gallery, "Added", [position for position, _ in changes.added], dict(changes.added)),
        _strip(gallery, "Removed", [position for position, _ in changes.removed], dict(changes.removed)),
        _strip(
            gallery, "Called otherwise", [position for position, _, _ in changes.relabelled],
            {position: f"{before}, now {now}" for position, before, now in changes.relabelled},
        ),
    ]  # fmt: skip
    return whole_page(gallery, f"{wanted}, version {count}", lead + "".join(parts))


def _catalogue(number: int, shown: ShownCatalogue) -> str:
    head = shown.catalogue
    signed = f"signed by key {esc(shown.signed_by)}" if shown.signed_by is not None else "not signed"
    until = f", expires {format_time(head.expires)}" if head.expires else ""
    rows = [
        [
            f'<a href="{_address(number, each)}">{name(each)}</a>',
            str(entry.version),
            digits(entry.history[0].images),
            digits(entry.history[0].classes),
            format_size(min(form.bytes for form in entry.forms)),
            _changed(entry.history[0]),
        ]
        for each, entry in head.tasks.items()
    ]
    body = (
        table(("task", "version", "images", "classes", "bytes", "what it changed"), rows)
        if rows
        else "<p>It has no task.</p>"
    )
    offered = [each for each, entry in head.references.items() if entry.files_anywhere]
    references = f"<p>References: {', '.join(name(each) for each in offered)}.</p>" if offered else ""
    return (
        f'<section aria-labelledby="k{number}"><h2 id="k{number}">{name(head.name)} <small>serial number {head.serial}, {signed}{until}; '
        f"{name(shown.place.base, 200)}</small></h2>{body}{references}</section>"
    )


def _version(number: int, task: str, each: Version) -> list[str]:
    link = f'<a href="{_address(number, task, each.version)}">{each.version}</a>'
    return [
        link, digits(each.images), digits(each.classes), format_size(each.bytes), str(each.serial or "none"), _changed(each),
    ]  # fmt: skip


def _changed(each: Version) -> str:
    counts = ((each.added, "added"), (each.removed, "removed"), (each.relabelled, "called otherwise"))
    return ", ".join(f"{digits(count)} {what}" for count, what in counts if count) or "nothing, or the first one"


def _needs(needs: str, pack: str, progressive: bool) -> str:
    return esc(f"{needs}{f' {pack}' if pack else ''}{', progressive' if progressive else ''}")


def _old(entry: Task, digest: str) -> str:
    found = next((str(each.version) for each in entry.history if each.content.startswith(digest)), "?")
    return esc(found)


def _address(number: int, task: str, count: int | None = None) -> str:
    return escape(f"/catalogues/{number}/{quote(task, safe='')}" + (f"/{count}" if count is not None else ""))


def _is_here(gallery: Gallery, entry: Task) -> bool:
    """Whether a task is of the images of this index."""
    return str(gallery.index.info["key_id"]).startswith(entry.key_id)


def _strip(gallery: Gallery, title: str, positions: Sequence[int], classes: dict[int, str]) -> str:
    """Images of one kind of change, with their classes."""
    there = [position for position in positions if position < len(gallery)][:_SHOWN]
    more = f" The first {len(there)} are shown." if len(there) < len(positions) else ""
    pictures = grid_of(gallery, there, classes) if there else ""
    return f"<h2>{title} <small>{many(len(positions), 'image')}.{more}</small></h2>{pictures}"
