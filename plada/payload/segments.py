"""Progressive payloads: segments of scattered blocks, or best-first layers. Any part can be used without the rest.

Blocks: runs of positions that belong together are dealt to segments by multiples of the golden ratio, so that each segment is
an even sample of the content. A segment is a body over the images of its blocks alone. Layers: the first holds the best
images; each is a body over the whole reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from plada.common.arrays import I64
from plada.errors import PayloadCorrupt, PayloadUnsupported, RequestError, SideMissing
from plada.payload.coders.block_coder import cut_bounds
from plada.payload.coders.body import read_content, write_content
from plada.payload.shared_context import SharedContext

RUN = 256  # images of a block where the manifest gives none
RUNS, FOLDERS, LAYERS = 0, 1, 2  # kinds of a plan
KINDS = ("blocks", "layers")
_DEFAULT_LAYERS = 2
_IMAGES_A_SEGMENT = 200  # a segment costs some ten bytes of its own, and its models begin anew
MAX_SEGMENTS = {"blocks": 4096, "layers": 16}  # a layer may cost a pass over the whole reference
_GOLDEN = 2654435769  # 2^32 times the golden ratio less one; odd, so that no two blocks have one key


@dataclass(frozen=True, slots=True, eq=False)
class Scattered:
    """Blocks `bounds` int64 [B+1] dealt to `segments` lists of block numbers, rising within each."""

    bounds: I64
    segments: list[I64]

    def virtual_reference(self, index: int, shared: SharedContext) -> tuple[int, SharedContext]:
        """(images, SharedContext) of the virtual reference that is one segment's blocks, one behind the other."""
        blocks = self.segments[index]
        starts, ends = self.bounds[blocks], self.bounds[blocks + 1]
        inner = np.concatenate([[0], np.cumsum(ends - starts)])
        features = None
        if shared.features is not None:
            features = np.concatenate(
                [shared.features[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
            )
        return int(inner[-1]), SharedContext(inner, features, shared.pack_id)

    def to_real(self, index: int, positions: I64) -> I64:
        """Positions in the reference of positions within a segment."""
        blocks = self.segments[index]
        starts = self.bounds[blocks]
        inner = np.concatenate([[0], np.cumsum(self.bounds[blocks + 1] - starts)])
        block = np.searchsorted(inner, positions, "right") - 1
        moved: I64 = positions - inner[block] + starts[block]
        return moved


def scatter(bounds: I64, segments: int) -> Scattered:
    """Deal blocks out: sorted by the key b * 2654435769 mod 2^32 of block b, the r-th of B goes to segment r * S // B."""
    blocks = len(bounds) - 1
    order = np.argsort(np.arange(blocks, dtype=np.uint64) * np.uint64(_GOLDEN) & np.uint64(0xFFFFFFFF))
    ends = [(blocks * index + segments - 1) // segments for index in range(segments + 1)]
    return Scattered(bounds, [np.sort(order[a:b]) for a, b in pairwise(ends)])


def default_segments(progressive: str, kept: int) -> int:
    """Usual number of segments for `kept` images: of blocks one for 200 images, 2 to 64."""
    return _DEFAULT_LAYERS if progressive == "layers" else min(max(kept // _IMAGES_A_SEGMENT, 2), 64)


def run_bounds(images: int) -> I64:
    """Blocks of RUN images, the last one of what is left."""
    return np.append(np.arange(0, images, RUN, dtype=np.int64), images)


def write_segments(
    positions: I64,
    labels: I64,
    rank: I64 | None,
    *,
    images: int,
    classes: int,
    coder: str,
    shared: SharedContext,
    progressive: str,
    segments: int | None = None,
) -> tuple[int, list[bytes]]:
    """(kind of the plan, bodies) of a content. `rank` int64 [k], 0 the best, orders the layers.

    Raises:
        RequestError: no such kind, an impossible number of segments, layers without a rank.
    """
    if progressive not in KINDS:
        raise RequestError(f"progressive '{progressive}': expected one of {', '.join(KINDS)}")
    count = default_segments(progressive, len(positions)) if segments is None else segments
    if not 1 <= count <= MAX_SEGMENTS[progressive]:
        raise RequestError(f"{count} {progressive} segments: expected 1 to {MAX_SEGMENTS[progressive]}")
    if progressive == "layers":
        if rank is None:
            raise RequestError("layers need the images ordered from best to worst, and no rank was given. Give a rank")
        bodies = [
            write_content(positions[rows], labels[rows], images=images, classes=classes, coder=coder, shared=shared)
            for rows in _layers(rank, count)
        ]
        return LAYERS, bodies
    kind, bounds = _blocks_to_deal(shared, images, count)
    dealt = scatter(bounds, min(count, len(bounds) - 1))
    block = np.searchsorted(bounds, positions, "right") - 1
    bodies = []
    for index, own in enumerate(dealt.segments):
        inside, virtual = dealt.virtual_reference(index, shared)
        assert virtual.blocks is not None
        rows = np.flatnonzero(np.isin(block, own))
        starts = virtual.blocks[np.searchsorted(own, block[rows])]
        moved = positions[rows] - bounds[block[rows]] + starts
        bodies.append(write_content(moved, labels[rows], images=inside, classes=classes, coder=coder, shared=virtual))
    return kind, bodies


def read_segments(
    kind: int, bodies: Sequence[bytes | None], *, images: int, classes: int, shared: SharedContext
) -> tuple[I64, I64, str]:
    """(positions, labels, names of the coders) of the segments that are there.

    Raises:
        PayloadCorrupt: a position twice, or what a body raises.
        PayloadUnsupported: a kind of plan that is not known. SideMissing: the manifest is needed.
    """
    if kind == LAYERS:
        if len(bodies) > MAX_SEGMENTS["layers"]:
            raise PayloadCorrupt(f"{len(bodies)} layers; expected at most {MAX_SEGMENTS['layers']}")
        read = [
            read_content(body, images=images, classes=classes, shared=shared) for body in bodies if body is not None
        ]
    elif kind in (RUNS, FOLDERS):
        if kind == FOLDERS and shared.blocks is None:
            raise SideMissing("the segments follow the folders of the reference", needs="manifest")
        bounds = run_bounds(images) if kind == RUNS or shared.blocks is None else cut_bounds(shared.blocks)
        if len(bodies) > min(len(bounds) - 1, MAX_SEGMENTS["blocks"]):
            raise PayloadCorrupt(
                f"{len(bodies)} segments of {len(bounds) - 1} blocks; expected at most {MAX_SEGMENTS['blocks']}"
            )
        dealt = scatter(bounds, len(bodies))
        read = []
        for index, body in enumerate(bodies):
            if body is not None:
                inside, virtual = dealt.virtual_reference(index, shared)
                positions, labels, coder = read_content(body, images=inside, classes=classes, shared=virtual)
                read.append((dealt.to_real(index, positions), labels, coder))
    else:
        raise PayloadUnsupported(f"segments of kind {kind} are not known to this plada. Install a newer plada")
    nothing = np.zeros(0, np.int64)
    positions = np.concatenate([nothing, *(part[0] for part in read)])
    labels = np.concatenate([nothing, *(part[1] for part in read)])
    order = np.argsort(positions, kind="stable")
    positions, labels = positions[order], labels[order]
    if (np.diff(positions) == 0).any():
        raise PayloadCorrupt("two segments name the same image")
    return positions, labels, "+".join(sorted({part[2] for part in read}))


def _blocks_to_deal(shared: SharedContext, images: int, count: int) -> tuple[int, I64]:
    """(kind of the plan, bounds) of the blocks to deal to `count` segments: folders, unless these are too few."""
    runs = run_bounds(images)
    folders = None if shared.blocks is None else cut_bounds(shared.blocks)
    if folders is None or len(folders) < min(count + 1, len(runs)):
        return RUNS, runs
    return FOLDERS, folders


def _layers(rank: I64, count: int) -> list[I64]:
    """Rows of each layer, rising: the best 2^-(count-1) of all, then as many again as all before, and so on."""
    order = np.argsort(rank, kind="stable")
    ends = [0, *(-(-len(rank) >> (count - 1 - layer)) for layer in range(count))]
    return [np.sort(order[a:b]) for a, b in pairwise(ends)]
