"""Building an index: list, load the encoder, embed shard by shard, check, publish. Any stop in between can be resumed."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plada.errors import Interrupted, ReferenceMismatch, RequestError
from plada.files import home_directory
from plada.indexer.embed import embed_rows
from plada.indexer.encoders import Encoder, EncoderConfig, config_from_json
from plada.indexer.store import Store, shard_rows
from plada.progress import Clock, Report, Tracker, silent
from plada.sources.collection import Collection
from plada.sources.manifest import key_id
from plada.sources.reference import manifest_path, open_reference, save_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSummary:
    """What `plada index` did; the fields of its --json summary. `reused`: images that were embedded before."""

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
    examples: tuple[str, ...]  # the first unreadable images: key, and why
    source_note: str = ""  # counts of a registered reference that are not the known ones
    pack: Mapping[str, Any] | None = None  # what make_pack says of the pack, where one was asked for

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def build_index(
    collection: Collection,
    encoder: Encoder,
    *,
    name: str,
    reference_name: str,
    home: Path,
    clock: Clock,
    batch_size: int = 64,
    workers: int = 4,
    restart: bool = False,
    report: Report = silent,
) -> IndexSummary:
    """Embed a collection into the store `home`/indexes/`name`, going on where an earlier run stopped.

    A finished index of the same images and encoder is left as it is and said to be reused.

    Raises:
        ReferenceMismatch: a finished index of that name is of other images or another encoder (`restart` replaces it).
        Interrupted: Ctrl-C; finished shards are kept.
        ResourceError: disk full, or another process writes this index. DataError: nothing readable.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise RequestError(f"index name '{name}': expected a plain name without slashes")
    store = Store(home / "indexes" / name)
    images, keys = len(collection), collection.keys
    with store.lock():
        finished = None if restart else store.info()
        if finished is not None:
            _same(finished, collection, encoder.config, reference_name, home)
            return _summary(store, finished, {**finished["seconds"], **clock.seconds}, reused=images, examples=())
        shard = shard_rows(images)
        plan = {"key_id": key_id(keys).hex(), "encoder": encoder.config.identity(), "shard": shard}
        done = store.begin(plan, restart=restart)
        tracker = Tracker("embed", images - done, report)
        kept = done
        try:
            for start in range(done, images, shard):
                stop = min(start + shard, images)
                with clock("embed"):
                    rows = embed_rows(
                        collection, encoder, start, stop, batch_size=batch_size, workers=workers, tracker=tracker
                    )
                with clock("commit"):
                    store.append(rows, keys.slice(start, stop - start))
                kept = stop
        except KeyboardInterrupt:
            raise Interrupted(
                f"index '{name}': stopped with {kept} of {images} images embedded and kept",
                resume=resume_command(collection, name, encoder.config, home),
            ) from None
        with clock("commit"):
            rate = (images - done) / max(clock.seconds.get("embed", 0.0), 1e-9)
            info = {
                "name": name,
                "images": images,
                "dimension": encoder.config.dimension,
                "reference": {"name": reference_name, "location": collection.location},
                "encoder": {**asdict(encoder.config), "self_check": encoder.self_check()},
                "images_per_second": rate,
                "seconds": clock.seconds,
            }
            manifest, unreadable = store.finish(keys, info, manifest_path(home, collection))
            save_reference(home, reference_name, collection, manifest)
    examples = tuple(f"{keys[position].as_py()}: {reason}" for position, reason in unreadable[:5])
    return _summary(store, store.info() or {}, clock.seconds, reused=done, examples=examples)


def _summary(
    store: Store, info: Mapping[str, Any], seconds: Mapping[str, float], *, reused: int, examples: tuple[str, ...]
) -> IndexSummary:
    return IndexSummary(
        name=info["name"],
        images=info["images"],
        unreadable=info["unreadable"],
        dimension=info["dimension"],
        encoder=info["encoder"]["name"],
        key_id=info["key_id"],
        content_id=info["content_id"],
        images_per_second=info["images_per_second"],
        seconds={stage: seconds.get(stage, 0.0) for stage in ("list", "load", "embed", "commit")},
        path=str(store.folder),
        reused=reused,
        examples=examples,
    )


def _same(
    finished: Mapping[str, Any], collection: Collection, encoder: EncoderConfig, reference_name: str, home: Path
) -> None:
    """Refuse to pass one index off as another."""
    name, hint = finished["name"], "Give another --name, or --restart to replace it"
    found = config_from_json(finished["encoder"]).identity()
    if found != encoder.identity():
        raise ReferenceMismatch(
            f"index '{name}' is there already, made with encoder {found['name']} {found['digest'][:12]} {dict(found['view'])}; "
            f"asked for is {encoder.name} {encoder.digest[:12]} {dict(encoder.view)}. {hint}"
        )
    manifest = open_reference(reference_name, collection, home).manifest
    if manifest.content_id.hex() != finished["content_id"]:
        raise ReferenceMismatch(
            f"index '{name}' is there already, of images with content id {finished['content_id'][:16]}; "
            f"{collection.location} has {manifest.content_id.hex()[:16]}. {hint}",
            wanted=finished["content_id"],
            found=manifest.content_id.hex(),
        )


def resume_command(collection: Collection, name: str, encoder: EncoderConfig, home: Path) -> str:
    """The command that goes on with this build; it must load the very same encoder, or it would begin anew."""
    words = ["plada", "index", collection.location, "--name", name, "--encoder", encoder.name]
    if encoder.name != "gradients":
        words += ["--weights", encoder.weights] if encoder.weights else ["--pretrained"]
        # A size that was asked for goes with a crop of 1; with any other crop the size is the weights' own.
        words += ["--image-size", str(encoder.view["size"])] if encoder.view["crop"] == 1 else []
    for option, value in encoder.model_args.items():
        words += ["--model-arg", f"{option}={value}"]
    if home != home_directory():
        words += ["--home", str(home)]
    return shlex.join(words)
