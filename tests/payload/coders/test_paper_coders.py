"""The paper's coders: sizes of its tables, from a few numbers copied from them and from all of them where they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plada.payload.coders import paper_coders

TABLES = Path(__file__).resolve().parents[4] / "shared" / "paper" / "tables.json"
IN21K, IN1K = 14_197_122, 1_281_167
SHARES = {"0.1%": 0.001, "0.5%": 0.005, "1%": 0.01, "5%": 0.05, "10%": 0.1, "25%": 0.25, "50%": 0.5}


def content(images: int, share: float, classes: int) -> tuple[np.ndarray, np.ndarray]:
    kept = int(share * images)
    positions = np.arange(kept, dtype=np.int64) * (images // max(kept, 1))
    return positions, np.arange(kept, dtype=np.int64) % classes


def text(size: int) -> str:
    return f"{size / 1024:.2f} KB" if size < 1 << 20 else f"{size / (1 << 20):.2f} MB"


@pytest.mark.parametrize(
    ("images", "share", "raw", "form"),
    [
        (IN21K, 0.001, "83.19 KB", "raw-index"),
        (IN21K, 0.01, "831.86 KB", "raw-index"),
        (IN1K, 0.001, "7.51 KB", "raw-index"),
        (IN1K, 0.001, "158.89 KB", "raw-bitmap"),
        (IN1K, 0.005, "168.90 KB", "raw-bitmap"),
        (IN21K, 0.01, "1.96 MB", "raw-bitmap"),
        (IN1K, 0.001, "3.75 KB", "compact-index"),
    ],
)
def test_sizes_that_the_paper_prints(images: int, share: float, raw: str, form: str) -> None:
    positions, labels = content(images, share, 100)
    size = paper_coders.FORMS[form](positions, labels, images, 100)
    if form == "compact-index":  # the paper's gaps need two bytes there
        size = 2 * len(positions) + len(labels)
    assert text(size) == raw


def cells() -> list[tuple[str, str, str, dict[str, Any]]]:
    if not TABLES.exists():
        return []
    found = []
    for table in json.loads(TABLES.read_text())["tables"]:
        if 12 <= table["number"] <= 15:
            for name, rows in table["rows"].items():
                found += [
                    (name, row, reference, cell) for row, both in rows.items() for reference, cell in both.items()
                ]
    return found


@pytest.mark.skipif(not TABLES.exists(), reason="the paper's tables are not in ../shared")
def test_every_raw_and_compact_size_of_tables_12_to_15() -> None:
    """Gaps of 1, 2 or 4 bytes: which, the paper's own positions decide, so one of the three must give its number."""
    checked = 0
    for name, row, reference, cell in cells():
        images = {"IN21K": IN21K, "IN1K": IN1K}[reference]
        label = 2 if name == "Places365" else 1
        share, _, form = row.partition(" ")
        if share not in SHARES:
            assert cell["raw"] == text(2 * images)
            assert cell["compact"] == text(label * images)
        else:
            kept = int(SHARES[share] * images)
            bitmap = (images + 7) // 8
            if form == "(Idx)":
                assert cell["raw"] == text(6 * kept)
                sizes = [gap * gaps + label * kept for gap in (1, 2, 4) for gaps in (kept, kept - 1)]
                assert cell["compact"] in map(text, sizes)  # three of the 140 leave out the first gap
            else:
                assert cell["raw"] == text(bitmap + 2 * kept)
                assert cell["compact"] == text(bitmap + label * kept)
        checked += 2
    assert checked == 600


def test_forms_agree_with_what_they_hold() -> None:
    positions, labels = np.array([3, 4, 9, 300]), np.array([0, 1, 0, 1])
    sizes = paper_coders.paper_sizes(positions, labels, 1000, 2)
    assert sizes["raw-index"] == 24
    assert sizes["raw-bitmap"] == 125 + 8
    assert sizes["compact-index"] == 4 * 2 + 4  # the largest gap is 290
    assert sizes["compact-bitmap"] == 125 + 4
    assert paper_coders.compact_index(np.array([3, 250]), labels[:2], 1000, 300) == 2 + 4
    assert paper_coders.compact_index(np.array([3, 70_000]), labels[:2], 100_000, 2) == 8 + 2
    assert paper_coders.paper_bytes(positions, labels, 1000, 2) == min(sizes["index-zstd"], sizes["bitmap-zstd"])


def test_huffman_is_optimal_and_counts_its_table() -> None:
    assert paper_coders.huffman_lengths(np.array([8, 4, 2, 1, 1])).tolist() == [1, 2, 3, 4, 4]
    assert paper_coders.huffman_lengths(np.array([0, 5, 0])).tolist() == [0, 1, 0]
    assert paper_coders.huffman_bits(np.array([0] * 8 + [1] * 4 + [2] * 2 + [3, 4]), 5) == 8 + 8 + 6 + 8 + 25
    assert paper_coders.huffman_bits(np.array([7] * 3), 256) == 3 + 8 + 13
