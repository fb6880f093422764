"""The coders of the paper (arXiv 2602.23358, appendix E), to measure ours against. No payload is written with them.

No form counts a header, names or an identity; N, C and k are known to both sides, as in the paper's tables. What the
paper leaves open is decided here: positions and labels go into one zstd frame, positions first; Huffman codes are of
bytes (gaps or bitmap) and of classes, their tables counted.
"""

import heapq
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import zstandard

from plada.common.arrays import I64

_LEVEL = 19


def raw_index(positions: I64, labels: I64, images: int, classes: int) -> int:
    """4 bytes a position, 2 a label."""
    return 6 * len(positions)


def raw_bitmap(positions: I64, labels: I64, images: int, classes: int) -> int:
    """A bit an image of the reference, 2 bytes a label."""
    return (images + 7) // 8 + 2 * len(positions)


def compact_index(positions: I64, labels: I64, images: int, classes: int) -> int:
    """Gaps of 1, 2 or 4 bytes, one width for all; labels of 1 or 2 bytes."""
    return len(_gaps(positions)) + len(_names(labels, classes))


def compact_bitmap(positions: I64, labels: I64, images: int, classes: int) -> int:
    """A bit an image of the reference, labels of 1 or 2 bytes."""
    return (images + 7) // 8 + len(_names(labels, classes))


def huffman_index(positions: I64, labels: I64, images: int, classes: int) -> int:
    """Huffman codes of the bytes of the gaps and of the classes, with both tables."""
    return (huffman_bits(_bytes(_gaps(positions)), 256) + huffman_bits(labels, classes) + 7) // 8


def huffman_bitmap(positions: I64, labels: I64, images: int, classes: int) -> int:
    """Huffman codes of the bytes of the bitmap and of the classes, with both tables."""
    return (huffman_bits(_bytes(_bitmap(positions, images)), 256) + huffman_bits(labels, classes) + 7) // 8


def index_zstd(positions: I64, labels: I64, images: int, classes: int) -> int:
    """The compact index list through zstd, level 19."""
    return len(_frame(_gaps(positions) + _names(labels, classes)))


def bitmap_zstd(positions: I64, labels: I64, images: int, classes: int) -> int:
    """The compact bitmap through zstd, level 19."""
    return len(_frame(_bitmap(positions, images) + _names(labels, classes)))


FORMS: Mapping[str, Callable[[I64, I64, int, int], int]] = MappingProxyType(
    {
        "raw-index": raw_index,
        "raw-bitmap": raw_bitmap,
        "compact-index": compact_index,
        "compact-bitmap": compact_bitmap,
        "huffman-index": huffman_index,
        "huffman-bitmap": huffman_bitmap,
        "index-zstd": index_zstd,
        "bitmap-zstd": bitmap_zstd,
    }
)


def paper_sizes(positions: I64, labels: I64, images: int, classes: int) -> dict[str, int]:
    """Bytes under each of the paper's coders. positions int64 [k] rising below `images`, labels int64 [k], k > 0."""
    return {name: form(positions, labels, images, classes) for name, form in FORMS.items()}


def paper_bytes(positions: I64, labels: I64, images: int, classes: int) -> int:
    """The smaller of the two zstd forms, which is what to beat."""
    return min(index_zstd(positions, labels, images, classes), bitmap_zstd(positions, labels, images, classes))


def huffman_bits(symbols: npt.NDArray[np.integer], alphabet: int) -> int:
    """Bits of the codes of symbols [k] below `alphabet` and of the code lengths: 5 bits for each symbol of the
    alphabet, or the used ones named."""
    counts = np.bincount(symbols, minlength=alphabet)
    width, used = max(1, (alphabet - 1).bit_length()), int((counts > 0).sum())
    return int((counts * huffman_lengths(counts)).sum()) + min(5 * alphabet, width + used * (5 + width))


def huffman_lengths(counts: I64) -> I64:
    """Code length of each symbol [alphabet], 0 of one that does not occur, 1 of the only one."""
    used = [int(symbol) for symbol in np.flatnonzero(counts)]
    lengths = np.zeros(len(counts), np.int64)
    if len(used) == 1:
        lengths[used[0]] = 1
    heap = [(int(counts[symbol]), symbol, [symbol]) for symbol in used]
    heapq.heapify(heap)
    while len(heap) > 1:
        one, other = heapq.heappop(heap), heapq.heappop(heap)
        lengths[one[2] + other[2]] += 1
        heapq.heappush(heap, (one[0] + other[0], min(one[1], other[1]), one[2] + other[2]))
    return lengths


def _narrowest(values: int) -> str:
    """The smallest type that holds `values` different ones."""
    return "<u1" if values <= 1 << 8 else "<u2" if values <= 1 << 16 else "<u4"


def _gaps(positions: I64) -> bytes:
    gaps = np.diff(positions, prepend=np.int64(-1)) - 1
    return gaps.astype(_narrowest(int(gaps.max(initial=0)) + 1)).tobytes()


def _bitmap(positions: I64, images: int) -> bytes:
    mask = np.zeros(images, np.uint8)
    mask[positions] = 1
    return np.packbits(mask).tobytes()


def _names(labels: I64, classes: int) -> bytes:
    return labels.astype(_narrowest(classes)).tobytes()


def _bytes(raw: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(raw, np.uint8)


def _frame(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=False, write_checksum=False).compress(raw)
