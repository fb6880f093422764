"""`plada export` as a Python call."""

from pathlib import Path

from plada.common.files import home_directory
from plada.common.outputs import check_new_folder, check_outputs
from plada.common.progress import Report, Tracker, silent, with_heartbeat
from plada.errors import RequestError, UnknownName
from plada.payload.payload import Payload
from plada.trainer.export import EXPORTS
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_file import ReadOptions
from plada.trainer.payload_images import ReferenceCopy, as_copy, open_payload_images, take_payload


@with_heartbeat
def export(
    payload: Payload | str | Path,
    *,
    to: str,
    out: str | Path,
    reference: str | Path | ReferenceCopy | None = None,
    link: bool = False,
    read: ReadOptions | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> Path:
    """Write the labelled images for another framework (docs/clients.md).

    Args:
        payload: A payload, the path or URL of one, or the name of a task that was pulled.
        to: csv, parquet, folder, webdataset, tfrecord (needs the extra `tfrecord`) or hf.
        out: The file or folder to make.
        reference: The client's copy of the reference: a registered name, a path, or a `ReferenceCopy`. None stands for a
            collection known here that fits.
        link: Make a folder of links instead of copies.
        read: How the payload is read, as for `read_payload`.
        home: Where manifests are kept.
        report: Called with progress.

    Returns:
        The path of what was made.

    Raises:
        UnknownName: There is no such form.
        RequestError: `out` is there already, or the images are no files to link to.
        PayloadError: The payload is bad, or not signed as required.
        ReferenceMismatch: It labels other images, or some are missing or changed.

    Examples:
        >>> import plada
        >>> plada.export("digits.plada", to="csv", out="labels.csv").name
        'labels.csv'
    """
    if to not in EXPORTS:
        raise UnknownName("export form", to, EXPORTS)
    if link and to != "folder":
        raise RequestError(
            f"--link makes a folder of links; {to} holds the images themselves. Leave it out, or --to folder"
        )
    check_outputs(out) if to in ("csv", "parquet") else check_new_folder(out)
    root, copy, options = home_directory(home), as_copy(reference), read or ReadOptions()
    context = PayloadContext(home=root, reference=copy.location, pack=options.pack, manifest=copy.manifest)
    labels = take_payload(payload, context, options)
    images = open_payload_images(labels, copy, home=root, report=report)
    EXPORTS[to](labels, images, Path(out), report, link)
    if images.lost:
        lost = images.lost_keys()
        Tracker("export", None, report).say(
            f"left out, since missing or changed: {len(lost)} images, the first is {lost[0]}"
        )
    return Path(out)
