"""`plada.index` and `plada.forecast`: embed a reference into a searchable index, or estimate what that takes."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

from plada.api.pack import make_pack
from plada.api.search import make_ann
from plada.common.cluster import LOCAL, RAY, check_engine
from plada.common.files import home_directory
from plada.common.outputs import check_output_folder
from plada.common.progress import Clock, Report, Tracker, silent, with_heartbeat
from plada.common.settings import setting
from plada.encoders.encoder import (
    DEFAULT_HINT,
    Encoder,
    config_from_json,
    load_encoder,
    needs_weights,
    recorded_encoder,
)
from plada.encoders.known import DEFAULT_ENCODER, download_megabytes
from plada.encoders.spec import EncoderSpec, encoder_spec, overlaid
from plada.errors import DataError, EncoderMissing, PladaError, RequestError, ResourceError
from plada.indexer.ann import ann_source, choose_ann_kind, read_ann
from plada.indexer.build import build_index
from plada.indexer.forecast import IndexForecast, run_trial
from plada.indexer.job import IndexSummary, Job
from plada.indexer.pack import PackSpec
from plada.indexer.parts import PartNumber, build_part, merge_parts, parse_shard, part_store
from plada.indexer.ray_engine import encoder_to_build, ray_workers
from plada.indexer.workers import Plan, WorkerPool, all_gpus, gpu_workers, make_plan, this_process, worker_processes
from plada.retrieval.index import open_index
from plada.sources.catalogue.known import KNOWN
from plada.sources.collection import Collection
from plada.sources.formats.folder import FolderCollection
from plada.sources.formats.listing import ListedCollection
from plada.sources.reference import manifest_folder, manifests_in
from plada.sources.registry import known_counts_note, open_source
from plada.sources.storage import plain_name, slug
from plada.sources.unreadable import UnreadableGroup, UnreadableTally


@with_heartbeat
def index(
    source: str | Path,
    *,
    name: str | None = None,
    encoder: str | EncoderSpec | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    engine: str = "local",
    shard: str | None = None,
    merge: bool = False,
    append: bool = False,
    restart: bool = False,
    ann: str = "auto",
    pack: bool | PackSpec = False,
    home: str | Path | None = None,
    report: Report = silent,
) -> IndexSummary:
    """Embed a reference into a searchable index. An interrupted run is resumed by the same call.

    Args:
        source: A registered name, a path or an fsspec URL: images, tars, WebDataset shards, parquet or Lance. What the command's
            options of the same names say stands before it: `incomplete:`, `column=NAME:`, `image-extension=jpg:`.
        name: Name of the index; None for that of the source.
        encoder: The encoder, by its name or its spec. None: that of an index or an unfinished one of this name, else the setting
            `encoder` (`plada.config`); built-in references take `gradients`.
        batch_size: Images that the encoder sees at a time. None: 32 on a CPU, 256 on a GPU.
        workers: Processes that read and decode, and without a GPU also encode. 0: this process alone. None: one for each
            processor, or 0 for a small collection.
        device: torch's name of a device, or `all` for every GPU of this machine. None: a GPU if there is one.
        engine: `local`, or `ray`: the Ray cluster that Ray finds.
        shard: "3/8" embeds only the third of eight parts, for a scheduler of your own; then call with `merge`.
        merge: Make the index of its finished parts.
        append: Keep the rows of a finished index of this name, and embed only images that are new or changed.
        restart: Throw away what is there under this name; with `append`, an unfinished build alone.
        ann: Also an approximate index: `ivf`, `hnsw`, `none`, or `auto` (where it pays).
        pack: Also the pack for clients (`plada.make_pack`): True, or its file and its dimensions.
        home: Where indexes and manifests are kept. None: $PLADA_HOME, or the user's data folder.
        report: Called with the progress.

    Returns:
        What was done: counts, ids, rates and times.

    Raises:
        RequestError: Options exclude each other, no encoder is given, or its options contradict each other.
        UnknownName: There is no such source, encoder, tag or engine.
        ReferenceMismatch: The index of that name is of other images or another encoder, or parts do not fit together.
        DataError: No image can be read, files or weights are damaged, or parts are missing.
        ResourceError: Disk or memory is full, or another process writes this index.
        Interrupted: Ctrl-C; what is finished is kept.

    Examples:
        >>> import plada
        >>> plada.index("glyphs:count=300", name="few").images
        300
    """
    _refuse_combinations(append=append, shard=shard, merge=merge)
    choose_ann_kind(ann, 0, 1)  # an unknown kind is refused now, not after hours
    check_engine(engine)
    part, root, clock = parse_shard(shard) if shard is not None else None, home_directory(home), Clock()
    check_output_folder(root / "indexes")
    job = _job(source, name, root, clock, report)
    if append or _is_unfinished(job, part):
        job = _listed_anew(job, source, clock)
    if merge:
        summary = merge_parts(job, clock=clock, restart=restart, report=report)
    else:
        spec = _spec(source, encoder, job, part, report)
        loaded, devices = _load(spec, device, clock, report, engine)
        plan = make_plan(loaded, len(job.collection), batch_size=batch_size, workers=workers)
        pool = _worker_pool(spec, loaded, devices, plan, engine)
        if part is not None:
            summary = build_part(job, loaded, part, clock=clock, plan=plan, pool=pool, restart=restart, report=report)
            return _noted(summary, source, job.collection)
        summary = build_index(
            job, loaded, clock=clock, plan=plan, pool=pool, restart=restart, append=append, report=report
        )
    summary = replace(_noted(summary, source, job.collection), reasons=_reasons(summary, job))
    if pack:
        wanted = pack if isinstance(pack, PackSpec) else PackSpec()
        packed = make_pack(summary.name, wanted.out, dimensions=wanted.dimensions, home=root, report=report)
        summary = replace(summary, pack=packed.to_dict())
    return _with_ann(summary, ann, root, report)


@with_heartbeat
def forecast(
    source: str | Path,
    *,
    encoder: str | EncoderSpec | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    seconds: float = 20.0,
    home: str | Path | None = None,
    report: Report = silent,
) -> IndexForecast:
    """Estimate what `plada.index` with the same arguments would take, from a trial on some of the images.

    Nothing is kept.

    Args:
        source: As for `plada.index`.
        encoder: As for `plada.index`.
        batch_size: As for `plada.index`.
        workers: As for `plada.index`.
        device: As for `plada.index`.
        seconds: How long the trial takes, about.
        home: As for `plada.index`; the trial writes there for a moment.
        report: Called with the progress.

    Returns:
        Expected time, disk and memory, and the stage that limits the rate.

    Raises:
        PladaError: As `plada.index` raises.

    Examples:
        >>> import plada
        >>> plada.forecast("glyphs:count=300", seconds=0.1).images
        300
    """
    root, clock = home_directory(home), Clock()
    job = _job(source, None, root, clock, report)
    spec = _spec(source, encoder, job, None, report)
    loaded, devices = _load(spec, device, clock, report)
    plan = make_plan(loaded, len(job.collection), batch_size=batch_size, workers=workers)
    pool = _worker_pool(spec, loaded, devices, plan, LOCAL)
    return run_trial(job.collection, loaded, plan, pool, seconds=seconds, clock=clock, home=root, report=report)


def _refuse_combinations(*, append: bool, shard: object, merge: bool) -> None:
    given = [name for name, on in (("--append", append), ("--shard", shard), ("--merge", merge)) if on]
    if len(given) > 1:
        raise RequestError(f"{given[0]} and {given[1]} exclude each other. Give one of them")


def _job(source: str | Path, name: str | None, home: Path, clock: Clock, report: Report) -> Job:
    with clock("list"):
        collection = open_source(source, home, report=report)
    own = name or plain_name(collection.location)
    return Job(collection=collection, name=own, reference_name=own, home=home)


def _noted(summary: IndexSummary, source: str | Path, collection: Collection) -> IndexSummary:
    """The summary with what is to be said of the images."""
    remark = collection.listing.remark if isinstance(collection, ListedCollection) else ""
    return replace(summary, source_note=known_counts_note(source, collection), remark=remark)


def _listed_anew(job: Job, source: str | Path, clock: Clock) -> Job:
    """The same job; images whose sizes come from a kept listing are listed again. It has the sizes of its time: it notices new
    names in a folder, and no change inside a file."""
    kept = job.home / "listings" / slug(job.collection.location)
    if not isinstance(job.collection, FolderCollection) or not kept.exists():
        return job
    with clock("list"):
        shutil.rmtree(kept)
        return replace(job, collection=open_source(source, job.home))


def _is_unfinished(job: Job, part: PartNumber | None) -> bool:
    """Whether some of the images were embedded by a run that was stopped: they are compared with the images of now."""
    if part is None:
        return job.store().plan_path.exists()
    store = part_store(job.store(), part)
    return store.plan_path.exists() and not (store.folder / "part.json").exists()


def _spec(
    source: str | Path, encoder: str | EncoderSpec | None, job: Job, part: PartNumber | None, report: Report
) -> EncoderSpec:
    """The encoder's spec, wherever its name comes from: the call, an index of this name, finished or not, the settings."""
    given = encoder_spec(encoder or "")
    if given.name:
        return given
    saved = _saved_encoder(job, part)
    known = KNOWN.get(str(source).partition(":")[0])
    if known is not None and known.built_in and saved is None:
        return replace(given, name="gradients")
    chosen = setting("encoder", job.home)
    if saved is None and not chosen.value:
        raise EncoderMissing(
            f"index {source}: photographs need a trained encoder, and nothing is downloaded unasked. Give {DEFAULT_HINT}, or set "
            "one for good: plada config set encoder clip",
            encoder=DEFAULT_ENCODER,
            megabytes=download_megabytes(DEFAULT_ENCODER),
        )
    origin = "the index of this name" if saved is not None else chosen.origin
    spec = overlaid(saved or encoder_spec(chosen.value), given)
    if spec.name != "gradients":
        Tracker("load", None, report).say(f"encoder {spec.name}, from {origin}")
    if spec.weights or spec.pretrained or not needs_weights(spec):
        return spec
    if setting("download", job.home).value == "yes":
        return replace(spec, pretrained=True)
    raise EncoderMissing(
        f"index {source}: encoder {spec.name} (from {origin}) needs its weights, and nothing is downloaded unasked. Give "
        "--pretrained or --weights FILE, or allow it for good: plada config set download yes",
        encoder=spec.name if saved is not None else chosen.value,
        megabytes=download_megabytes(spec.name),
    )


def _saved_encoder(job: Job, part: PartNumber | None) -> EncoderSpec | None:
    """The encoder of the index of this name, finished or not; None where there is none that can be read. An unfinished build does
    not say where its weights came from."""
    stores = [job.store(), *([part_store(job.store(), part)] if part is not None else [])]
    for store in stores:
        with contextlib.suppress(DataError):
            if (plan := store.unfinished()) is not None:
                saved = {"dimension": 0, "weights": "", "digest": "", **plan["encoder"]}
                return replace(recorded_encoder(config_from_json(saved)), pretrained=False)
            if (info := store.info()) is not None:
                return recorded_encoder(config_from_json(info["encoder"]))
    return None


def _load(
    spec: EncoderSpec, device: str | None, clock: Clock, report: Report, engine: str = LOCAL
) -> tuple[Encoder, list[str]]:
    """The encoder on the device, or on the first of all GPUs, and where it is to run."""
    with clock("load"):
        if engine == RAY:
            encoder = encoder_to_build(spec, device)
            return encoder, [encoder.where]
        devices = all_gpus() if device == "all" else [device]
        encoder = load_encoder(spec, device=devices[0])
    if encoder.size_note:
        Tracker("load", None, report).say(encoder.size_note)
    return encoder, [where or encoder.where for where in devices]


def _worker_pool(spec: EncoderSpec, encoder: Encoder, devices: list[str], plan: Plan, engine: str) -> WorkerPool:
    if engine == RAY:
        return ray_workers(spec, encoder, plan)
    if plan.workers == 0:
        return this_process(encoder, plan)
    if encoder.where == "cpu":
        return worker_processes(spec, plan)
    return gpu_workers(encoder, plan, spec=spec, devices=devices)


def _reasons(summary: IndexSummary, job: Job) -> tuple[UnreadableGroup, ...]:
    """Why images of a finished index are unreadable, from its manifest, while that is there."""
    tally = UnreadableTally()
    if summary.unreadable:
        for manifest in manifests_in(manifest_folder(job.home, job.collection)):
            if manifest.content_id.hex() == summary.content_id:
                tally.add_manifest(manifest)
                break
    return tally.groups()


def _with_ann(summary: IndexSummary, wanted: str, home: Path, report: Report) -> IndexSummary:
    """The summary with its approximate index, which is built if it is wanted and not there yet."""
    kind = choose_ann_kind(wanted, summary.images - summary.unreadable, summary.dimension)
    if kind is None:
        return summary
    index = open_index(summary.name, home=home)
    with contextlib.suppress(PladaError):
        there = read_ann(index.folder / "ann", ann_source(index.info))
        if wanted == "auto" or there.kind == kind:
            return replace(summary, ann=dict(there.info))
    try:
        return replace(summary, ann=make_ann(index, kind=kind, report=report))
    except (ResourceError, RequestError) as err:
        if wanted != "auto":
            raise
        # Nobody asked for it: the index is whole, and can be searched exactly.
        return replace(summary, notes=(*summary.notes, f"no approximate index: {err}"))
