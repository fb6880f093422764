"""Segments: an even sample each, or the best first; each is worth something alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plada.errors import PayloadCorrupt, PayloadUnsupported, RequestError, SideMissing
from plada.payload.coders.body import write_content
from plada.payload.container import PLAN, Header, write_container, write_plan
from plada.payload.payload import parse_payload
from plada.payload.segments import (
    FOLDERS,
    LAYERS,
    RUNS,
    default_segments,
    read_segments,
    run_bounds,
    scatter,
    write_segments,
)
from plada.payload.shared_context import SharedContext
from tests.payload.payloads import CONTENT, KEY, folders, made

NOTHING = np.zeros(0, np.int64)


def test_the_order_of_blocks_never_changes() -> None:
    """Pinned: keys of 10 blocks in units of 2^32: 0 .618 .236 .854 .472 .09 .708 .326 .944 .562."""
    dealt = scatter(np.arange(11, dtype=np.int64), 4)
    assert [list(segment) for segment in dealt.segments] == [[0, 2, 5], [4, 7], [1, 6, 9], [3, 8]]
    assert [list(s) for s in scatter(np.array([0, 5]), 1).segments] == [[0]]
    assert [list(s) for s in scatter(np.array([0, 5, 6]), 2).segments] == [[0], [1]]


@settings(max_examples=60)
@given(blocks=st.integers(1, 2000), segments=st.integers(1, 64), seed=st.integers(0, 5))
def test_every_image_is_in_one_segment(blocks: int, segments: int, seed: int) -> None:
    segments = min(segments, blocks)
    sizes = np.random.default_rng(seed).integers(1, 40, blocks)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    dealt = scatter(bounds, segments)
    counts = [len(segment) for segment in dealt.segments]
    assert max(counts) - min(counts) <= 1
    features = np.arange(bounds[-1], dtype=np.int64).astype(np.int8)[:, None]
    seen = []
    for index in range(segments):
        images, shared = dealt.virtual_reference(index, SharedContext(bounds, features, b"id"))
        assert shared.blocks is not None and shared.features is not None
        real = dealt.to_real(index, np.arange(images))
        assert (np.diff(real) > 0).all()
        assert np.array_equal(shared.features, features[real])
        assert np.array_equal(np.diff(shared.blocks), sizes[dealt.segments[index]])
        seen.append(real)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(bounds[-1]))


def test_a_segment_is_an_even_sample_of_the_reference() -> None:
    dealt = scatter(run_bounds(256 * 1000), 10)
    for segment in dealt.segments:
        assert np.diff(segment).max() <= 20  # 10 on average
        assert segment[0] < 20
        assert segment[-1] > 980


def test_runs_end_with_the_reference() -> None:
    assert list(run_bounds(600)) == [0, 256, 512, 600]
    assert list(run_bounds(512)) == [0, 256, 512]
    assert list(run_bounds(1)) == [0, 1]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_any_segments_give_their_images(known: bool, count: int) -> None:
    payload, shared = made(300, 4000), folders(4000) if known else SharedContext()
    kind, bodies = write_segments(
        payload.positions, payload.labels, None, images=4000, classes=3, coder="auto", shared=shared, progressive="blocks", segments=count
    )  # fmt: skip
    assert kind == (FOLDERS if known else RUNS)
    assert len(bodies) == count
    truth = dict(zip(payload.positions.tolist(), payload.labels.tolist(), strict=True))
    total = 0
    for index in range(count):
        alone = [body if n == index else None for n, body in enumerate(bodies)]
        positions, labels, _ = read_segments(kind, alone, images=4000, classes=3, shared=shared)
        assert [truth[p] for p in positions.tolist()] == labels.tolist()
        total += len(positions)
    assert total == 300


def test_layers_are_the_best_first() -> None:
    payload = made(100, 4000)
    rank = np.random.default_rng(5).permutation(100)
    kind, bodies = write_segments(
        payload.positions, payload.labels, rank, images=4000, classes=3, coder="auto", shared=SharedContext(), progressive="layers", segments=4
    )  # fmt: skip
    assert kind == LAYERS
    for count, images in ((1, 13), (2, 25), (3, 50), (4, 100)):
        part = [*bodies[:count], *[None] * (4 - count)]
        positions, _, _ = read_segments(kind, part, images=4000, classes=3, shared=SharedContext())
        assert np.array_equal(positions, np.sort(payload.positions[rank < images]))


def test_a_few_images_make_empty_layers_and_segments() -> None:
    for payload in (made(1, 5000, rank=[0]), made(0, 5000, rank=[])):
        for progressive in ("blocks", "layers"):
            data = payload.encode(progressive=progressive, segments=8)
            assert len(parse_payload(data).payload) == len(payload)


def test_small_payloads_have_few_segments() -> None:
    assert [default_segments("blocks", k) for k in (0, 500, 2000, 142_000)] == [2, 2, 10, 64]
    assert default_segments("layers", 142_000) == 2


def test_there_are_no_more_segments_than_blocks() -> None:
    file = parse_payload(made(20, 600).encode(progressive="blocks", segments=8))
    assert file.payload.segments == (3, 3)
    assert file.sections["segments"] + file.sections["plan"] + file.sections["about"] < file.bytes


@pytest.mark.parametrize(
    ("progressive", "segments", "words"),
    [
        ("rows", None, "blocks, layers"),
        ("blocks", 0, "expected 1 to 4096"),
        ("blocks", 4097, "expected 1 to 4096"),
        ("layers", 17, "expected 1 to 16"),
        ("layers", 2, "Give a rank"),
    ],
)
def test_impossible_requests(progressive: str, segments: int | None, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        made().encode(progressive=progressive, segments=segments)


def test_folders_need_the_manifest() -> None:
    data = made().encode(progressive="blocks", shared=folders())
    with pytest.raises(SideMissing) as caught:
        parse_payload(data)
    assert caught.value.needs == "manifest"


def test_liars_are_refused() -> None:
    body = write_content(NOTHING, NOTHING, images=1000, classes=3, coder="gaps-zstd", shared=SharedContext())
    image = write_content(
        np.array([5]), np.array([1]), images=1000, classes=3, coder="gaps-zstd", shared=SharedContext()
    )
    shares = {"images": 1000, "classes": 3, "shared": SharedContext()}
    with pytest.raises(PayloadUnsupported, match="kind 3"):
        read_segments(3, [body], **shares)  # type: ignore[arg-type]
    with pytest.raises(PayloadCorrupt, match="same image"):
        read_segments(LAYERS, [image, image], **shares)  # type: ignore[arg-type]
    with pytest.raises(PayloadCorrupt, match="17 layers"):
        read_segments(LAYERS, [body] * 17, **shares)  # type: ignore[arg-type]
    with pytest.raises(PayloadCorrupt, match="5 segments of 4 blocks"):
        read_segments(RUNS, [body] * 5, **shares)  # type: ignore[arg-type]
    with pytest.raises(PayloadCorrupt, match="expected at most 4096"):
        read_segments(RUNS, [None] * 4097, images=1 << 28, classes=3, shared=SharedContext())
    data = write_container(Header(1000, 3, KEY, CONTENT), {PLAN: write_plan(LAYERS, [len(image)] * 2)}, [image] * 2)
    with pytest.raises(PayloadCorrupt, match="same image"):
        parse_payload(data, partial=True)


def test_where_folders_are_fewer_than_segments_even_blocks_are_dealt() -> None:
    payload, one_folder = made(400, 3000), SharedContext(np.array([0, 3000]))
    for shared, segments, needs in ((one_folder, 5, False), (one_folder, 2, True), (folders(3000), 5, True)):
        data = payload.encode("blocks", shared=shared, progressive="blocks", segments=segments)
        assert parse_payload(data, shared=shared).payload.segments == (segments, segments)
        assert 0 < len(parse_payload(data[:-9], shared=shared, partial=True).payload) < 400
        if needs:
            with pytest.raises(SideMissing, match="folders"):
                parse_payload(data)
        else:
            assert parse_payload(data).payload.digest() == payload.digest()
