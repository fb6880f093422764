"""`plada index` as a Python call. Lies beside api.py."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plada.errors import RequestError
from plada.files import home_directory
from plada.packing import make_pack
from plada.progress import Clock, Report, silent
from plada.sources.known import KNOWN
from plada.sources.reference import plain_name
from plada.sources.registry import check_source, open_source

if TYPE_CHECKING:
    from plada.indexer.build import IndexSummary


def index(
    source: str | Path,
    *,
    name: str | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    batch_size: int = 64,
    workers: int = 4,
    device: str | None = None,
    restart: bool = False,
    pack: bool = False,
    pack_out: str | Path | None = None,
    pack_dimensions: int = 64,
    home: str | Path | None = None,
    report: Report = silent,
) -> "IndexSummary":
    """Embed a reference into a searchable index; an interrupted run goes on where it stopped.

    `source` is a registered name, a path or an fsspec URL: images, tars, WebDataset shards, parquet or Lance. `encoder` is
    needed for all but the built-in reference. With `pack` (or `pack_out`, its file) the pack for clients is written too,
    see `plada.make_pack`. See `plada.indexer.build.build_index` for what is raised.
    """
    from plada.indexer.build import build_index
    from plada.indexer.encoders import load_encoder

    root, clock = home_directory(home), Clock()
    with clock("list"):
        collection = open_source(source, root)
    known = str(source).partition(":")[0]
    if encoder is None and not (known in KNOWN and KNOWN[known].built_in):
        raise RequestError(
            f"index {source}: photographs need a trained encoder. Give --encoder timm:ARCH with --weights FILE or "
            "--pretrained, such as --encoder timm:mobilenetv2_100 --pretrained (--encoder gradients needs no weights; it suits drawn characters)"
        )
    with clock("load"):
        loaded = load_encoder(
            encoder or "gradients",
            weights=weights,
            pretrained=pretrained,
            model_args=model_args,
            image_size=image_size,
            device=device,
        )
    reference_name = name or plain_name(collection.location)
    made = build_index(
        collection,
        loaded,
        name=reference_name,
        reference_name=reference_name,
        home=root,
        clock=clock,
        batch_size=batch_size,
        workers=workers,
        restart=restart,
        report=report,
    )
    made = replace(made, source_note=check_source(source, collection))
    if not pack and pack_out is None:
        return made
    packed = make_pack(reference_name, pack_out, dimensions=pack_dimensions, home=root, report=report)
    return replace(made, pack=packed.to_dict())
