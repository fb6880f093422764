"""An index built on one machine or one cluster: embed shard by shard, check, publish. An interrupted build is resumed."""

import shutil
from collections.abc import Sequence

from plada.common.progress import Clock, Report, silent
from plada.encoders.encoder import Encoder
from plada.errors import Interrupted
from plada.indexer.builds import next_build, sweep
from plada.indexer.changes import resume
from plada.indexer.growth import FinishedRows, finished_rows
from plada.indexer.job import (
    IndexSummary,
    Job,
    check_same_encoder,
    is_same,
    publish_index,
    resume_command,
    summarise,
)
from plada.indexer.pipeline import RunStats, Span, embed_shards, shard_spans
from plada.indexer.store import Store, shard_rows
from plada.indexer.workers import Plan, WorkerPool, make_plan, this_process


def build_index(
    job: Job,
    encoder: Encoder,
    *,
    clock: Clock,
    plan: Plan | None = None,
    pool: WorkerPool | None = None,
    restart: bool = False,
    append: bool = False,
    report: Report = silent,
) -> IndexSummary:
    """Embed a collection into its store, resuming where an earlier run stopped.

    A finished index of the same images and encoder is left as it is and said to be reused. With `append` a finished
    index of other images is taken over: images with the same key and content are read and hashed, but not embedded again.
    `pool` does the work; without one, this process alone.

    Raises:
        ReferenceMismatch: a finished index of that name is of other images or another encoder, or an unfinished one of
            another plan is here (`restart` replaces it; with `append` only the unfinished one).
        Interrupted: Ctrl-C; finished shards are kept.
        ResourceError: disk full, or another process writes this index. DataError: nothing readable.
    """
    store, images, stats = job.store(), len(job.collection), RunStats()
    plan = plan or make_plan(encoder, images, batch_size=None, workers=0)
    with store.lock():
        target = next_build(store, restart=restart, keep_finished=append)
        finished = store.info()
        known: FinishedRows | None = None
        if finished is not None:
            check_same_encoder(finished, encoder.config, encoder.self_check)
            if is_same(finished, job, append=append, stats=stats, report=report):
                return summarise(store, clock, stats, reused=images, workers=plan.workers)
            known = finished_rows(store, finished)
        build, shard = job.plan(encoder.config), shard_rows(images)
        done = target.begin(build)
        if done:
            done, note = resume(target, job.collection, first=0, shard=shard, report=report)
            stats.notes += [note] if note else []
        spans = [span for span in shard_spans(images, shard) if span[0] >= done]
        words = ["--append"] if append else []
        embed_into(
            target, job, spans, encoder, plan, pool, known=known, clock=clock, stats=stats, report=report, words=words
        )
        examples = publish_index(job, target, encoder.config, encoder.self_check(), clock=clock, stats=stats)
        shutil.rmtree(store.folder / "ann", ignore_errors=True)  # of other rows
        sweep(store, {target.table})
        return summarise(store, clock, stats, reused=done + stats.kept, workers=plan.workers, examples=examples)


def embed_into(
    store: Store,
    job: Job,
    spans: Sequence[Span],
    encoder: Encoder,
    plan: Plan,
    pool: WorkerPool | None,
    *,
    known: FinishedRows | None,
    clock: Clock,
    stats: RunStats,
    report: Report,
    words: Sequence[str],
) -> None:
    """Embed the images of `spans` into a store; `words` belong to the command that resumes after a Ctrl-C.

    Raises:
        Interrupted: Ctrl-C.
    """
    keys = job.collection.keys
    before = store.rows()
    if not spans:
        return
    try:
        embed_shards(
            job.collection,
            spans,
            pool or this_process(encoder, plan),
            lambda rows: store.append(rows, keys.slice(rows.start, len(rows))),
            dimension=encoder.config.dimension,
            chunk=plan.chunk,
            known=known,
            stats=stats,
            report=report,
        )
    except KeyboardInterrupt:
        wanted = before + sum(stop - start for start, stop in spans)
        raise Interrupted(
            f"index '{job.name}': stopped with {store.rows()} of {wanted} images embedded and kept",
            resume=resume_command(job, encoder.config, words),
        ) from None
    finally:
        for stage, seconds in (("load", stats.loading), ("embed", stats.embedding)):
            clock.seconds[stage] = clock.seconds.get(stage, 0.0) + seconds
