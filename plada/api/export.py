"""`plada export` as a Python call: the labelled set for another framework."""

from collections.abc import Sequence
from pathlib import Path

from plada.api.train import _read
from plada.common.files import home_directory
from plada.common.progress import Report, silent
from plada.errors import RequestError, UnknownName
from plada.payload.payload import Payload
from plada.trainer.export import EXPORTS
from plada.trainer.payload_file import PayloadContext
from plada.trainer.payload_images import open_chosen


def export(
    payload: Payload | str | Path,
    *,
    to: str,
    out: str | Path,
    reference: str | Path | None = None,
    link: bool = False,
    same_keys: bool = False,
    skip_changed: bool = False,
    pack: str | Path | None = None,
    partial: bool = False,
    update: Sequence[str | Path] = (),
    require_signature: str | Path | None = None,
    min_serial: int = 0,
    home: str | Path | None = None,
    report: Report = silent,
) -> Path:
    """Hand the labelled set to another framework, in one of the forms of docs/clients.md: csv, parquet, folder, webdataset,
    tfrecord, hf. `link` makes a folder of links instead of copies. `pack`, `partial`, `update`, `require_signature` and
    `min_serial` are as for `read_payload`.

    Raises:
        UnknownName: no such form. RequestError: `out` cannot be made, or not by links. Others as `train` raises.
    """
    if to not in EXPORTS:
        raise UnknownName("export form", to, EXPORTS)
    if link and to != "folder":
        raise RequestError(
            f"--link makes a folder of links; {to} holds the images themselves. Leave it out, or --to folder"
        )
    around = PayloadContext(home=home_directory(home), reference=reference, pack=pack)
    read = _read(payload, around, partial, update, require_signature, min_serial)
    chosen = open_chosen(
        read, reference, home=around.home, same_keys=same_keys, skip_changed=skip_changed, report=report
    )
    EXPORTS[to](read, chosen, Path(out), report, link)
    return Path(out)
