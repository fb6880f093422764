"""What a machine says of itself."""

import subprocess
import sys

import numpy as np

from plada.common.machine import peak_memory


def test_what_a_parent_holds_is_not_counted_for_its_child() -> None:
    held = np.ones(1 << 26)  # 512 MB, written to
    code = "from plada.common.machine import peak_memory; print(peak_memory())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    own = peak_memory()
    assert own is not None and own > held.nbytes
    assert int(said) < 200 << 20
