"""`plada index` as a Python call. Lies beside api.py."""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from plada.api.pack import make_pack
from plada.api.search import make_ann
from plada.common.files import home_directory
from plada.common.progress import Clock, Report, silent
from plada.encoders.encoder import DEFAULT_HINT, Encoder, load_encoder
from plada.errors import PladaError, RequestError, ResourceError, UnknownName
from plada.indexer.ann import made_of, read_ann, wanted
from plada.indexer.build import build_index, refuse_combinations
from plada.indexer.forecast import Forecast, try_out
from plada.indexer.job import IndexSummary, Job
from plada.indexer.parts import build_part, merge_parts, parse_shard
from plada.indexer.ray_engine import on_ray
from plada.indexer.workers import Plan, Run, all_gpus, feeding, here, make_plan, processes
from plada.retrieval.index import open_index
from plada.sources.catalogue.known import KNOWN
from plada.sources.registry import known_counts_note, open_source
from plada.sources.storage import plain_name

ENGINES = ("local", "ray")


def index(
    source: str | Path,
    *,
    name: str | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    tag: str | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    compiled: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    engine: str = "local",
    shard: str | None = None,
    merge: bool = False,
    append: bool = False,
    restart: bool = False,
    ann: str = "auto",
    pack: bool = False,
    pack_out: str | Path | None = None,
    pack_dimensions: int = 64,
    home: str | Path | None = None,
    report: Report = silent,
) -> IndexSummary:
    """Embed a reference into a searchable index; an interrupted run goes on where it stopped.

    `source` is a registered name, a path or an fsspec URL: images, tars, WebDataset shards, parquet or Lance. `encoder` and
    what belongs to it (`weights` to `compiled`) are those of plada.encoders.encoder.load_encoder; it is needed for all but
    the built-in reference.

    Who does the work: `workers` processes (0: this one alone; None: one a core, none for a small collection) that on a CPU
    read, decode and embed, and before a GPU read and decode; `device` is torch's name of one, or `all` for every GPU of this
    machine; `engine` "ray" hands the shards to the Ray cluster that Ray finds. `batch_size` None: 32 on a CPU, 256 on a GPU.

    `shard` "3/8" embeds the third of eight parts, for a scheduler of your own; `merge` makes the index when all are there.
    `append` keeps what a finished index of this name knows and embeds only images that are new or changed. `ann` also
    builds an approximate index: ivf, hnsw, none, or auto (where it pays). With `pack` (or `pack_out`, its file) the pack for
    clients is written too, see `plada.make_pack`.

    Raises:
        RequestError: options that exclude each other, no encoder. Others as plada.indexer.build.build_index,
        plada.indexer.parts.merge_parts and load_encoder raise.
    """

    refuse_combinations(restart=restart, append=append, shard=shard, merge=merge)
    wanted(ann, 0, 1)  # a word that is none is refused now, not after hours
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    part, root, clock = parse_shard(shard) if shard is not None else None, home_directory(home), Clock()
    job = _job(source, name, root, clock)
    if merge:
        made = merge_parts(job, clock=clock, restart=restart, report=report)
    else:
        loading = _loading(source, encoder, weights, tag, pretrained, model_args, image_size, precision, compiled)
        loaded = _load(loading, device, clock)
        plan, crew = _staff(loading, loaded, len(job.collection), batch_size, workers, engine)
        if part is not None:
            made = build_part(job, loaded[0], part, clock=clock, plan=plan, crew=crew, restart=restart, report=report)
            return replace(made, source_note=known_counts_note(source, job.collection))
        made = build_index(
            job, loaded[0], clock=clock, plan=plan, crew=crew, restart=restart, append=append, report=report
        )
    made = replace(made, source_note=known_counts_note(source, job.collection))
    if pack or pack_out is not None:
        packed = make_pack(made.name, pack_out, dimensions=pack_dimensions, home=root, report=report)
        made = replace(made, pack=packed.to_dict())
    return _with_ann(made, ann, root, report)


def forecast(
    source: str | Path,
    *,
    encoder: str | None = None,
    weights: str | Path | None = None,
    tag: str | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    compiled: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    seconds: float = 20.0,
    home: str | Path | None = None,
    report: Report = silent,
) -> Forecast:
    """What `plada.index` with the same arguments would take, from a trial of about `seconds` on some of the images.

    Nothing is kept. Raises as `index` does.
    """

    root, clock = home_directory(home), Clock()
    job = _job(source, None, root, clock)
    loading = _loading(source, encoder, weights, tag, pretrained, model_args, image_size, precision, compiled)
    loaded = _load(loading, device, clock)
    plan, crew = _staff(loading, loaded, len(job.collection), batch_size, workers, "local")
    return try_out(job.collection, loaded[0], plan, crew, seconds=seconds, clock=clock, home=root, report=report)


def _with_ann(made: IndexSummary, asked: str, home: Path, report: Report) -> IndexSummary:
    """The summary of an index with its approximate index, which is built if it is wanted and not there yet."""

    kind = wanted(asked, made.images - made.unreadable, made.dimension)
    if kind is None:
        return made
    index = open_index(made.name, home=home)
    with contextlib.suppress(PladaError):
        there = read_ann(index.folder / "ann", made_of(index.info))
        if asked == "auto" or there.kind == kind:
            return replace(made, ann=dict(there.info))
    try:
        return replace(made, ann=make_ann(index, kind=kind, report=report))
    except (ResourceError, RequestError) as err:
        if asked != "auto":
            raise
        # Nobody asked for it: the index is whole, and can be searched exactly.
        return replace(made, notes=(*made.notes, f"no approximate index: {err}"))


def _job(source: str | Path, name: str | None, home: Path, clock: Clock) -> Any:

    with clock("list"):
        collection = open_source(source, home)
    own = name or plain_name(collection.location)
    return Job(collection=collection, name=own, reference_name=own, home=home)


def _loading(
    source: str | Path,
    encoder: str | None,
    weights: str | Path | None,
    tag: str | None,
    pretrained: bool,
    model_args: Mapping[str, Any] | None,
    image_size: int | None,
    precision: str | None,
    compiled: bool,
) -> dict[str, Any]:
    """Arguments of load_encoder, plain values: worker processes load it again."""

    known = str(source).partition(":")[0]
    if encoder is None and not (known in KNOWN and KNOWN[known].built_in):
        raise RequestError(
            f"index {source}: photographs need a trained encoder, and nothing is downloaded unasked. Give {DEFAULT_HINT}"
        )
    given = {
        "name": encoder or "gradients",
        "weights": str(weights) if weights is not None else None,
        "tag": tag,
        "pretrained": pretrained,
        "model_args": dict(model_args or {}),
        "image_size": image_size,
        "precision": precision,
        "compiled": compiled,
    }
    return {option: value for option, value in given.items() if value}


def _load(loading: Mapping[str, Any], device: str | None, clock: Clock) -> list[Encoder]:

    with clock("load"):
        devices = all_gpus() if device == "all" else [device]
        return [load_encoder(**loading, device=where) for where in devices]


def _staff(
    loading: Mapping[str, Any],
    loaded: list[Encoder],
    images: int,
    batch_size: int | None,
    workers: int | None,
    engine: str,
) -> tuple[Plan, AbstractContextManager[Run]]:

    plan = make_plan(loaded[0], images, batch_size=batch_size, workers=workers)
    if engine == "ray":
        return plan, on_ray(loading, loaded[0].where, plan)
    if plan.workers == 0:
        return plan, here(loaded[0], plan)
    if loaded[0].where == "cpu":
        return plan, processes({**loading, "device": "cpu"}, plan)
    return plan, feeding(loaded, plan)
