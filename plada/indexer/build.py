"""Building an index on one machine or one cluster: embed shard by shard, check, publish. Any stop can be gone on from."""

import shutil
from collections.abc import Sequence

from plada.common.progress import Clock, Report, silent
from plada.encoders.encoder import Encoder
from plada.errors import Interrupted, RequestError
from plada.indexer.growth import Known, growing_store, known_rows, take_over
from plada.indexer.job import (
    IndexSummary,
    Job,
    check_same_encoder,
    check_same_images,
    publish_index,
    resume_command,
    summarise,
)
from plada.indexer.pipeline import Flow, Span, embed_shards, shard_spans
from plada.indexer.store import Store, shard_rows
from plada.indexer.workers import Crew, Plan, here, make_plan
from plada.sources.manifest import key_id


def build_index(
    job: Job,
    encoder: Encoder,
    *,
    clock: Clock,
    plan: Plan | None = None,
    crew: Crew | None = None,
    restart: bool = False,
    append: bool = False,
    report: Report = silent,
) -> IndexSummary:
    """Embed a collection into its store, going on where an earlier run stopped.

    A finished index of the same images and encoder is left as it is and said to be reused. With `append` a finished
    index of other images is taken over: images with the same key and content are read and hashed, but not embedded again.
    `crew` does the work, this process alone if there is none.

    Raises:
        ReferenceMismatch: a finished index of that name is of other images or another encoder (`restart` replaces it).
        Interrupted: Ctrl-C; finished shards are kept.
        ResourceError: disk full, or another process writes this index. DataError: nothing readable.
    """
    store, images, flow = job.store(), len(job.collection), Flow()
    plan = plan or make_plan(encoder, images, batch_size=None, workers=0)
    with store.lock():
        if restart:
            shutil.rmtree(growing_store(store).folder, ignore_errors=True)
        else:
            take_over(store)  # what an append that was stopped at its very end has left
        finished = None if restart else store.info()
        known: Known | None = None
        target = store
        if finished is not None:
            check_same_encoder(finished, encoder.config)
            if not append or finished["key_id"] == key_id(job.collection.keys).hex():
                check_same_images(finished, job)
                return summarise(store, clock, flow, reused=images, workers=plan.workers)
            known, target = known_rows(store, finished), growing_store(store)
            target.folder.mkdir(exist_ok=True)
        done = target.begin(job.plan(encoder.config), restart=restart)
        spans = [span for span in shard_spans(images, shard_rows(images)) if span[0] >= done]
        words = ["--append"] if append else []
        embed_into(
            target, job, spans, encoder, plan, crew, known=known, clock=clock, flow=flow, report=report, words=words
        )
        examples = publish_index(job, target, encoder.config, encoder.self_check(), clock=clock, flow=flow)
        take_over(store)
        return summarise(store, clock, flow, reused=done + flow.kept, workers=plan.workers, examples=examples)


def embed_into(
    store: Store,
    job: Job,
    spans: Sequence[Span],
    encoder: Encoder,
    plan: Plan,
    crew: Crew | None,
    *,
    known: Known | None,
    clock: Clock,
    flow: Flow,
    report: Report,
    words: Sequence[str],
) -> None:
    """Embed the images of `spans` into a store; `words` belong to the command that goes on after a Ctrl-C.

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
            crew or here(encoder, plan),
            lambda rows: store.append(rows, keys.slice(rows.start, len(rows))),
            dimension=encoder.config.dimension,
            chunk=plan.chunk,
            known=known,
            flow=flow,
            report=report,
        )
    except KeyboardInterrupt:
        wanted = before + sum(stop - start for start, stop in spans)
        raise Interrupted(
            f"index '{job.name}': stopped with {store.rows()} of {wanted} images embedded and kept",
            resume=resume_command(job, encoder.config, words),
        ) from None
    finally:
        for stage, seconds in (("load", flow.loading), ("embed", flow.embedding)):
            clock.seconds[stage] = clock.seconds.get(stage, 0.0) + seconds


def refuse_combinations(*, restart: bool, append: bool, shard: object, merge: bool) -> None:
    """Options of `plada index` that exclude each other.

    Raises:
        RequestError: two that do.
    """
    given = [name for name, on in (("--append", append), ("--shard", shard), ("--merge", merge)) if on]
    if len(given) > 1:
        raise RequestError(f"{given[0]} and {given[1]} exclude each other. Give one of them")
    if restart and append:
        raise RequestError("--restart throws away what --append would keep. Give one of them")
