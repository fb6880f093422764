"""The same inputs give the same payload on any number of threads, by every rule."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from plada.common.products import BLAS, ROWS, one_thread, steady_product
from plada.selection.rules.registry import RULES
from plada.sources.formats.builtin import open_digits

SELECT = """
import sys
import plada
from plada.selection.rules.registry import RULES
from plada.sources.formats.builtin import open_digits
home, small, out = sys.argv[1:]
for rule in (*RULES, "auto"):
    plada.select("glyphs", target=small, budget=400, rule=rule, home=home, out=f"{out}/{rule}.plada")
plada.select("glyphs", target="digits", budget=600, rule="high-energy", home=home, out=f"{out}/all-digits.plada")
"""


def some_digits(root: Path) -> Path:
    """A target of a few digits: twelve of each to learn from, four to test."""
    target = open_digits()
    assert target.test is not None
    for part, split, each in (("train", target.train, 12), ("test", target.test, 4)):
        for label, name in enumerate(target.classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for position in split.positions[split.labels == label][:each].tolist():
                (folder / f"{position}.png").write_bytes(split.collection.read(position))
    return root


def test_payloads_are_the_same_on_any_number_of_threads(glyph_home: Path, tmp_path: Path) -> None:
    files, small = {}, some_digits(tmp_path / "few")
    for threads in ("1", "2", "8"):
        out = tmp_path / threads
        out.mkdir()
        number = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, "-c", SELECT, str(glyph_home), str(small), str(out)]
        subprocess.run(command, check=True, env={**os.environ, **number}, timeout=600)
        files[threads] = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
    assert set(files["1"]) == {f"{rule}.plada" for rule in (*RULES, "auto", "all-digits")}
    for threads in ("2", "8"):
        assert [name for name, data in files["1"].items() if files[threads][name] != data] == []


@pytest.mark.parametrize(("width", "columns"), [(256, 10), (64, 7), (33, 1)])
def test_a_row_of_a_product_depends_on_itself_alone(width: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(ROWS + 90, width)), rng.normal(size=(width, columns)).astype(np.float32)
    with one_thread(BLAS):
        whole = steady_product(rows, weights)
        for part in (slice(0, 1), slice(3, 40), slice(ROWS - 5, ROWS + 7), slice(40, None)):
            assert steady_product(rows[part], weights).tobytes() == whole[part].tobytes()
    np.testing.assert_allclose(whole, rows.astype(np.float32) @ weights, rtol=1e-4, atol=1e-4)
    assert steady_product(rows[:0], weights).shape == (0, columns)
