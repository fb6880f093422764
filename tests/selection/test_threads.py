"""The same inputs give the same payload on any number of threads, by every rule."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from plada.common.products import BLAS, ROWS, one_thread, steady_product
from plada.selection.rules.registry import RULES

SELECT = """
import sys
import plada
from plada.selection.rules.registry import RULES
home, small, out = sys.argv[1:]
for rule in (*RULES, "auto"):
    plada.select("glyphs", target=small, budget=400, rule=rule, home=home, out=f"{out}/{rule}.plada")
plada.select("glyphs", target="digits", budget=600, rule="high-energy", home=home, out=f"{out}/all-digits.plada")
"""


def test_payloads_are_the_same_on_any_number_of_threads(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    files = {}
    for threads in ("1", "2", "8"):
        out = tmp_path / threads
        out.mkdir()
        number = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, "-c", SELECT, str(glyph_home), str(few_digits), str(out)]
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
