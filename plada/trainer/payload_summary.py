"""What a payload file is made of, read with what this machine knows beside it."""

from pathlib import Path

from plada.errors import SideMissing
from plada.payload.container import ABOUT, DIFF, LABELS, read_container
from plada.payload.diff import parse_changes
from plada.payload.inspect import RATES, PayloadSummary, summarise, summarise_closed
from plada.payload.metadata import numbered, read_about
from plada.trainer.payload_file import PayloadContext, check_sender, fetch, named, parse_beside, shared_context_for


def summarise_file(
    payload: str | Path,
    around: PayloadContext,
    *,
    rates: tuple[int, ...] = RATES,
    require_signature: str | Path | None = None,
) -> PayloadSummary:
    """What a payload file, or a file of changes, holds and where its bytes go; without what the labels need the rest is
    still said.

    Raises:
        RequestError: no such file. PayloadError: its subclass says what is wrong; SignatureError: not signed so.
    """
    data = fetch(payload)
    with named(payload):
        check_sender(data, require_signature, payload)
        file = read_container(data)
        if DIFF in file.sections:
            changes = parse_changes(data)
            said = {
                "for": changes.old.hex(),
                "makes": changes.new.hex(),
                "new_names": list(changes.names),
                "renamed": len(changes.classes.renamed),
                "gone_bytes": len(changes.gone),
                "changed_bytes": len(changes.changed),
                "added_bytes": len(changes.added),
            }
            return summarise_closed(
                file.header, len(data), file.parts, file.signature, (), changes.notes or {}, missing="", changes=said,
                rates=rates,
            )  # fmt: skip
        try:
            opened = parse_beside(data, around)
        except SideMissing as missing:
            about = file.sections.get(ABOUT)
            names, notes = read_about(about, file.header.classes) if about is not None else (None, {})
            bodies = [body for body in (file.sections.get(LABELS), *file.segments) if body is not None]
            return summarise_closed(
                file.header, len(data), file.parts, file.signature, names or numbered(file.header.classes), notes,
                missing=str(missing), bodies=bodies, segments=(len(file.segments),) * 2 if file.segments else None,
                rates=rates,
            )  # fmt: skip
        side = shared_context_for(opened.header, around, "pack" if opened.header.pack_id else "manifest")
        return summarise(opened, side, rates=rates)
