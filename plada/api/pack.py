"""`plada.make_pack` and `plada.install_pack`: a server writes a pack from an index, a client installs it."""

from pathlib import Path

from plada.common.files import home_directory
from plada.common.outputs import check_outputs
from plada.common.progress import Report, silent, with_heartbeat
from plada.indexer.pack import feature_blocks, fit_projection
from plada.payload.pack import (
    SCALE,
    PackSummary,
    copy_pack,
    installed_path,
    packs_folder,
    read_pack,
    summarise,
    write_pack,
)
from plada.retrieval.index import Index, open_index
from plada.sources.reference import find_reference

_ROWS = 8192  # vectors held at a time


@with_heartbeat
def make_pack(
    index: Index | str | Path | None = None,
    out: str | Path | None = None,
    *,
    dimensions: int = 64,
    home: str | Path | None = None,
    report: Report = silent,
) -> PackSummary:
    """Write a pack from an index: small features that clients install beside their images, so that payloads shrink.

    Args:
        index: An opened index or its name; None for the only one there is.
        out: The file to write; None keeps the pack where an installed one would be.
        dimensions: Features an image, 1 to 4096: the leading principal components of the embeddings.
        home: Where indexes and packs are kept; None for the usual place.
        report: Takes the progress.

    Returns:
        The pack's file, ids and size, and the share of the embeddings' variance that it keeps.

    Raises:
        UnknownName: There is no such index.
        RequestError: The embeddings have fewer dimensions.
        DataError: All embeddings are alike.
        ResourceError: The disk is full or not writable.

    Examples:
        >>> import plada
        >>> plada.make_pack("glyphs", "glyphs.pack", dimensions=16).images
        1500
    """
    check_outputs(out)
    opened = index if isinstance(index, Index) else open_index(index, home=home, report=report)
    root = home_directory(home)
    images, key = len(opened), bytes.fromhex(opened.info["key_id"])
    projection = fit_projection(opened.scan(_ROWS), images=images, dimensions=dimensions, scale=SCALE, report=report)
    features = feature_blocks(opened.scan(_ROWS), projection, images=images, report=report)
    path = Path(out) if out is not None else packs_folder(root) / f"{key.hex()}.new"
    pack_id = write_pack(path, features, key_id=key, images=images, dimensions=dimensions)
    if out is None:
        path = path.replace(installed_path(root, key, pack_id))
    return summarise(read_pack(path), reference=opened.info["reference"]["location"], variance=projection.variance)


def install_pack(path: str | Path, *, home: str | Path | None = None) -> PackSummary:
    """Keep a pack where payloads that need it look for it, its hash compared; doing it again changes nothing.

    Args:
        path: A pack that `make_pack` or `plada index --pack` wrote.
        home: Where packs are kept; None for the usual place.

    Returns:
        The installed file, its ids and size; `reference` is where this machine has the images that it belongs to, None if
        it has none.

    Raises:
        RequestError: There is no such file.
        PayloadError: The pack is truncated, damaged or of a newer format.
        ResourceError: The disk is full or not writable.

    Examples:
        >>> import plada
        >>> pack = plada.make_pack("glyphs", "glyphs.pack", dimensions=16)
        >>> plada.install_pack("glyphs.pack").images
        1500
    """
    root = home_directory(home)
    pack = read_pack(path)
    return summarise(copy_pack(pack, root), reference=find_reference(pack.key_id, root))
