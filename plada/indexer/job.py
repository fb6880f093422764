"""What all ways of building an index share: what is built, the summary, and the checks that nothing is mixed up."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plada.common.files import home_directory
from plada.common.progress import Clock, Report
from plada.encoders.encoder import EncoderConfig, config_from_json, encoder_options, self_check_agrees
from plada.errors import ReferenceMismatch, RequestError
from plada.indexer.builds import table_of
from plada.indexer.changes import SAMPLE, changed_images
from plada.indexer.pipeline import RunStats
from plada.indexer.store import Store, check_index_name, shard_rows
from plada.sources.collection import Collection
from plada.sources.manifest import key_id
from plada.sources.reference import keep_manifest, manifest_path, save_reference
from plada.sources.unreadable import UnreadableGroup

STAGES = ("list", "load", "embed", "commit")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSummary:
    """What `plada.index` did.

    Attributes:
        name: Name of the index.
        images: Images of the index, or of the part that was made.
        unreadable: Images without an embedding.
        dimension: Numbers of an embedding.
        encoder: Name of the encoder.
        key_id: Key id of the reference, hexadecimal.
        content_id: Content id of the reference, hexadecimal; empty for a part.
        images_per_second: The rate, without loading the encoder.
        seconds: Seconds on the clock by stage: list, load, embed, commit.
        path: The folder.
        reused: Images that were embedded before.
        examples: The first unreadable images: key, and why.
        reasons: Unreadable images by reason: how many, and one example of each.
        where: Seconds of all processes together by stage: read, decode, encode, write.
        workers: Worker processes.
        notes: What happened on the way, such as batches that were halved.
        shard: The part that was made ("3/8"), if only one was; there is no index yet.
        source_note: Counts of a registered reference that are not the known ones.
        pack: The summary of the pack, where one was asked for.
        ann: What ann.json says of the approximate index, where one was made.
        remark: What the listing passed over, and what is missing there.
    """

    name: str
    images: int
    unreadable: int
    dimension: int
    encoder: str
    key_id: str
    content_id: str
    images_per_second: float
    seconds: Mapping[str, float]
    path: str
    reused: int
    examples: tuple[str, ...] = ()
    reasons: tuple[UnreadableGroup, ...] = ()
    where: Mapping[str, float] = field(default_factory=dict)
    workers: int = 0
    notes: tuple[str, ...] = ()
    shard: str | None = None
    source_note: str = ""
    pack: Mapping[str, Any] | None = None
    ann: Mapping[str, Any] | None = None
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a build is of. `name` is the index's, `reference_name` that of the images; `home` as home_directory gives it."""

    collection: Collection
    name: str
    reference_name: str
    home: Path

    def store(self) -> Store:
        """Where the index is kept.

        Raises:
            RequestError: the name is not a plain one.
        """
        if "://" in self.name:
            raise RequestError(
                f"index {self.name}: an index is built on a disk, not at a URL. Give a plain --name, and copy its folder there when it is "
                "finished (`aws s3 cp --recursive FOLDER URL`)"
            )
        check_index_name(self.name)
        return Store(self.home / "indexes" / self.name)

    def plan(self, encoder: EncoderConfig) -> dict[str, Any]:
        """What an unfinished build must agree in to be resumed."""
        images = len(self.collection)
        key = key_id(self.collection.keys).hex()
        return {"images": images, "key_id": key, "encoder": encoder.settings(), "shard": shard_rows(images)}


def publish_index(
    job: Job,
    store: Store,
    config: EncoderConfig,
    self_check: Sequence[float],
    *,
    clock: Clock,
    stats: RunStats,
) -> tuple[str, ...]:
    """Check the rows of a store and make them an index, with its manifest: the first unreadable images, and why.

    Raises:
        As Store.finish.
    """
    with clock("commit"):
        info = {
            "name": job.name,
            "images": len(job.collection),
            "dimension": config.dimension,
            "reference": {"name": job.reference_name, "location": job.collection.location},
            "encoder": {**asdict(config), "self_check": list(self_check)},
            "images_per_second": stats.rate,
            "seconds": {stage: clock.seconds.get(stage, 0.0) for stage in STAGES},
            "where": stats.spent,
        }
        path = manifest_path(job.home, job.collection)
        keep_manifest(path)
        manifest, unreadable = store.finish(job.collection.keys, info, path)
        save_reference(job.home, job.reference_name, job.collection, manifest)
    keys = job.collection.keys
    return tuple(f"{keys[position].as_py()}: {reason}" for position, reason in unreadable[:5])


def summarise(
    store: Store, clock: Clock, stats: RunStats, *, reused: int, workers: int = 0, examples: tuple[str, ...] = ()
) -> IndexSummary:
    """The summary of an index that is there; seconds of this run, or those of its making where nothing was done."""
    info = store.info() or {}
    seconds = {**info["seconds"], **clock.seconds}
    return IndexSummary(
        name=info["name"],
        images=info["images"],
        unreadable=info["unreadable"],
        dimension=info["dimension"],
        encoder=info["encoder"]["name"],
        key_id=info["key_id"],
        content_id=info["content_id"],
        images_per_second=info["images_per_second"],
        seconds={stage: seconds.get(stage, 0.0) for stage in STAGES},
        path=str(store.folder),
        reused=reused,
        examples=examples,
        where=info.get("where", {}),
        workers=workers,
        notes=stats.all_notes(),
    )


def check_same_encoder(
    finished: Mapping[str, Any], config: EncoderConfig, self_check: Callable[[], Sequence[float]]
) -> None:
    """Refuse to pass an index off as one of another encoder. Its precision may be another one if the self-check agrees.

    Raises:
        ReferenceMismatch: both are said.
    """
    own = config_from_json(finished["encoder"])
    alike = own.identity() == config.identity()
    if alike and own.precision != config.precision:
        alike = self_check_agrees(finished["encoder"], self_check(), config.precision)
    if not alike:
        raise ReferenceMismatch(
            f"index '{finished['name']}' is there already, made with encoder {_described(own)}; asked for is "
            f"{_described(config)}. Give another --name, or --restart to replace it"
        )


def is_same(finished: Mapping[str, Any], job: Job, *, append: bool, stats: RunStats, report: Report) -> bool:
    """Whether a finished index is of these very images. With `append` every one is hashed; without, a difference is refused.

    Raises:
        ReferenceMismatch: images were added, removed or changed, and it is not to grow.
    """
    place, own, name = job.collection.location, key_id(job.collection.keys).hex(), finished["name"]
    advice = "Give another --name, --append to embed only what is new or changed, or --restart to begin anew"
    if own != finished["key_id"]:
        if append:
            return False
        raise ReferenceMismatch(
            f"index '{name}' is there already, of {finished['images']} images with key id {finished['key_id'][:16]}; {place} "
            f"has {len(job.collection)} with {own[:16]}. {advice}",
            wanted=finished["key_id"],
            found=own,
        )
    store = Store(job.store().folder, table_of(finished))
    changed = changed_images(store, job.collection, sample=None if append else SAMPLE, report=report)
    if not len(changed.positions):
        stats.notes += [note] if (note := changed.note(name)) else []
        return True
    if append:
        return False
    first = job.collection.keys[int(changed.positions[0])]
    raise ReferenceMismatch(
        f"index '{name}' is there already, of {finished['images']} images; of these, {len(changed.positions)} in {place} have "
        f"other bytes now, the first is {first}. {advice}",
        wanted=finished["content_id"],
    )


def resume_command(job: Job, encoder: EncoderConfig, words: Sequence[str] = ()) -> str:
    """The command that resumes this build. It must load the very same encoder, or it would begin anew."""
    return command(job, [*encoder_options(encoder), *words])


def command(job: Job, words: Sequence[str]) -> str:
    """`plada index` on this job's images with some more words."""
    line = ["plada", "index", job.collection.location, "--name", job.name, *words]
    return shlex.join(line + (["--home", str(job.home)] if job.home != home_directory() else []))


def _described(encoder: EncoderConfig) -> str:
    return f"{encoder.name} {encoder.digest[:12]} {dict(encoder.view)} {dict(encoder.model_args) or ''}".rstrip()
