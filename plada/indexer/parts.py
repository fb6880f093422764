"""A build in parts, for users with a scheduler of their own: `--shard i/n` embeds one part, `--merge` makes the index.

A part lies in `parts/i-of-n` below the index. Parts end where shards do, and are embedded in the same batches, so the merged
index is the one that a single machine would have made.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from plada.common.checksums import write_sealed_json
from plada.common.progress import Clock, Report, Tracker, silent
from plada.encoders.encoder import Encoder, config_from_json
from plada.errors import DataError, Interrupted, ReferenceMismatch, RequestError
from plada.indexer.build import embed_into
from plada.indexer.builds import next_build
from plada.indexer.changes import SAMPLE, changed_images, resume
from plada.indexer.description import FORMAT
from plada.indexer.job import (
    STAGES,
    IndexSummary,
    Job,
    check_same_encoder,
    command,
    is_same,
    publish_index,
    summarise,
)
from plada.indexer.pipeline import RunStats, Span, shard_spans
from plada.indexer.store import TABLE, Ledger, Store, connect
from plada.indexer.workers import Plan, WorkerPool, make_plan

PARTS = "parts"


@dataclass(frozen=True, slots=True)
class PartNumber:
    """Part `number` of `of`, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_shard(text: str) -> PartNumber:
    """`3/8`: the third of eight parts.

    Raises:
        RequestError: anything else.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise RequestError(f"--shard {text}: expected I/N with 1 <= I <= N, such as 3/8")
    return PartNumber(int(found[1]), int(found[2]))


def part_spans(images: int, rows: int, shard: PartNumber) -> list[Span]:
    """The shards of a part: a stretch of the whole, since neighbours mostly lie in one file."""
    spans = shard_spans(images, rows)
    return spans[(shard.number - 1) * len(spans) // shard.of : shard.number * len(spans) // shard.of]


def build_part(
    job: Job,
    encoder: Encoder,
    shard: PartNumber,
    *,
    clock: Clock,
    plan: Plan | None = None,
    pool: WorkerPool | None = None,
    restart: bool = False,
    report: Report = silent,
) -> IndexSummary:
    """Embed one part of a collection, resuming where an earlier run stopped; a finished part is left as it is.

    The summary's `content_id` is empty and `unreadable` 0: both are known when the parts are merged.

    Raises:
        As build_index.
    """
    images, stats = len(job.collection), RunStats()
    plan = plan or make_plan(encoder, images, batch_size=None, workers=0)
    part = part_store(job.store(), shard)
    wanted = {**job.plan(encoder.config), "batch_size": plan.batch_size}
    spans = part_spans(images, wanted["shard"], shard)
    expected = sum(stop - start for start, stop in spans)
    with part.lock():
        if restart:
            (part.folder / "part.json").unlink(missing_ok=True)
        finished = _read_part(part) is not None
        part.begin(wanted, restart=restart)
        first = spans[0][0] if spans else 0
        done, note = resume(part, job.collection, first=first, shard=wanted["shard"], report=report)
        stats.notes += [note] if note else []
        if done < expected or not finished:
            (part.folder / "part.json").unlink(missing_ok=True)
            left = [span for span in spans if span[0] >= first + done]
            words = ["--batch-size", str(plan.batch_size), "--shard", str(shard)]
            embed_into(
                part, job, left, encoder, plan, pool, known=None, clock=clock, stats=stats, report=report, words=words
            )
            with clock("commit"):
                _finish_part(part, wanted, spans, {**asdict(encoder.config), "self_check": encoder.self_check()})
    return IndexSummary(
        name=job.name,
        images=expected,
        unreadable=0,
        dimension=encoder.config.dimension,
        encoder=encoder.config.name,
        key_id=wanted["key_id"],
        content_id="",
        images_per_second=stats.rate if stats.embedded else 0.0,
        seconds={stage: clock.seconds.get(stage, 0.0) for stage in STAGES},
        path=str(part.folder),
        reused=done,
        where=stats.spent,
        workers=plan.workers,
        notes=stats.all_notes(),
        shard=str(shard),
    )


def merge_parts(job: Job, *, clock: Clock, restart: bool = False, report: Report = silent) -> IndexSummary:
    """Make the index of its parts: the same rows that one machine would have written. No encoder is needed.

    The parts stay; they can be removed when the index is there.

    Raises:
        RequestError, DataError, ReferenceMismatch: parts are missing, damaged, or do not fit together or the images.
        Interrupted: Ctrl-C; what is merged is kept.
    """
    store, images, stats = job.store(), len(job.collection), RunStats()
    with store.lock():
        parts = find_parts(store)
        encoder = parts[0][1]["encoder"]
        config, plan = config_from_json(encoder), parts[0][1]["plan"]
        own = job.plan(config)["key_id"]
        if plan["key_id"] != own:
            raise ReferenceMismatch(
                f"index '{job.name}': the parts are of images with key id {plan['key_id'][:16]}, {job.collection.location} has "
                f"{own[:16]}. Merge them with the images that they were made of",
                wanted=plan["key_id"],
                found=own,
            )
        target = next_build(store, restart=restart)
        finished = store.info()
        if finished is not None:
            check_same_encoder(finished, config, lambda: list(encoder["self_check"]))
            is_same(finished, job, append=False, stats=stats, report=report)
            return summarise(store, clock, stats, reused=images)
        done = target.begin(plan)
        _refuse_changed(parts, job, report)
        tracker, kept = Tracker("merge", images - done, report), done
        try:
            with clock("commit"):
                for part, info in parts:
                    for table in _shard_tables(part, info, kept):
                        target.append_table(table)
                        kept += len(table)
                        tracker.advance(len(table))
        except KeyboardInterrupt:
            raise Interrupted(
                f"index '{job.name}': stopped with {kept} of {images} images merged and kept",
                resume=command(job, ["--merge"]),
            ) from None
        examples = publish_index(job, target, config, encoder["self_check"], clock=clock, stats=stats)
        shutil.rmtree(store.folder / "ann", ignore_errors=True)  # of other rows
        return summarise(store, clock, stats, reused=done, examples=examples)


def find_parts(store: Store) -> list[tuple[Store, dict[str, Any]]]:
    """The finished parts of an index in order, each with its part.json, all there and of one plan.

    Raises:
        RequestError: there are none. DataError: some are missing or not finished.
        ReferenceMismatch: they are of different images, encoders or batches.
    """
    root = store.folder / PARTS
    names = [path.name for path in root.glob("*-of-*") if re.fullmatch(r"\d+-of-\d+", path.name)]
    if not names:
        raise RequestError(f"{root}: no parts to merge. Make them with `plada index ... --shard 1/N` to N/N")
    counts = sorted({int(name.split("-")[2]) for name in names})
    if len(counts) > 1:
        raise DataError(f"{root}: parts of {counts[0]} and parts of {counts[1]}. Remove those that are not meant")
    found = []
    for number in range(1, counts[0] + 1):
        part = part_store(store, PartNumber(number, counts[0]))
        info = _read_part(part)
        if info is None:
            state = "is not finished" if part.folder.exists() else "is missing"
            raise DataError(f"{part.folder}: {state}. Run `plada index ... --shard {number}/{counts[0]}`")
        found.append((part, info))
    first = found[0][1]["plan"]
    for part, info in found[1:]:
        for what, value in info["plan"].items():
            if value != first.get(what):
                raise ReferenceMismatch(
                    f"{part.folder}: {what} is {value}, that of part 1/{counts[0]} is {first.get(what)}. All parts must be made of "
                    "the same images with the same encoder and batch size",
                    wanted=str(first.get(what)),
                    found=str(value),
                )
    return found


def _refuse_changed(parts: list[tuple[Store, dict[str, Any]]], job: Job, report: Report) -> None:
    """Refuse parts whose images have changed since; their share of a sample is hashed.

    Raises:
        ReferenceMismatch: an image has other bytes than when its part was made.
    """
    for number, (part, info) in enumerate(parts, 1):
        if not info["spans"]:
            continue
        sample, first = max(SAMPLE // len(parts), 1), info["spans"][0][0]
        changed = changed_images(part, job.collection, first=first, sample=sample, report=report).positions
        if len(changed):
            raise ReferenceMismatch(
                f"{part.folder}: {len(changed)} of its images changed since it was made, the first is "
                f"{job.collection.keys[int(changed[0])]}. Run `plada index ... --shard {number}/{len(parts)}` again"
            )


def _finish_part(part: Store, plan: dict[str, Any], spans: list[Span], encoder: dict[str, Any]) -> None:
    """Say that a part is whole: its plan, spans and encoder, and the digests of its shards."""
    ledger = Ledger(plan["shard"])
    if spans:
        for batch in part.batches(["position", "hash", "vector"]):
            ledger.add(batch)
    info = {"format": FORMAT, "plan": plan, "spans": spans, "encoder": encoder, "digests": ledger.digests()}
    write_sealed_json(part.folder / "part.json", info)


def _shard_tables(part: Store, info: dict[str, Any], done: int) -> Iterator[Any]:
    """The shards of a part from position `done` on as pyarrow tables, each compared with its digest.

    Raises:
        DataError: a shard is damaged or missing.
    """
    spans = [tuple(span) for span in info["spans"]]
    if not any(stop > done for _, stop in spans):
        return
    with part.readable():
        dataset = connect(part.folder).open_table(TABLE).to_lance()
    for (start, stop), digest in zip(spans, info["digests"], strict=True):
        if start < done:
            continue
        with part.readable():
            table = dataset.scanner(offset=start - spans[0][0], limit=stop - start, scan_in_order=True).to_table()
        ledger = Ledger(info["plan"]["shard"])
        for batch in table.to_batches():
            ledger.add(batch)
        if ledger.digests() != [digest]:
            raise DataError(f"{part.folder}: images {start} to {stop - 1} are damaged or missing. Make this part again")
        yield table


def part_store(store: Store, shard: PartNumber) -> Store:
    return Store(store.folder / PARTS / f"{shard.number}-of-{shard.of}")


def _read_part(part: Store) -> dict[str, Any] | None:
    return part.read_json(part.folder / "part.json")
