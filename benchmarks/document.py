"""docs/benchmarks.md: one section a benchmark, each written by the benchmark itself."""

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plada.common.files import write_bytes

TITLE = """# Benchmarks

Each section is what one command printed last; ratios and their parts come from one run. Nothing here is asserted by a
test: machines are noisy.
"""


def write_section(path: Path, name: str, text: str) -> None:
    """Put `text` into the section `name` of the document, leaving all others as they are."""
    begin, end = f"<!-- {name}: written by the benchmark -->\n", f"<!-- end of {name} -->\n"
    old = path.read_text() if path.exists() else TITLE
    section = f"{begin}{text.strip()}\n{end}"
    head, found, rest = old.partition(begin)
    whole = head + section + rest.partition(end)[2] if found else f"{old.rstrip()}\n\n{section}"
    write_bytes(path, whole.encode())


def conclude(path: Path, name: str, lines: Sequence[str], figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Put `lines` into the section `name`, and print them, or as the last line the figures."""
    write_section(path, name, "\n".join(lines))
    print(json.dumps(figures) if as_json else "\n".join(lines))


def machine() -> str:
    """What the figures were taken on."""
    import os

    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def spread(values: Sequence[float]) -> float:
    """Standard deviation of what the seeds gave; 0 for a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
