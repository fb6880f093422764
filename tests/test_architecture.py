"""Data flows one way, and so do imports: sources -> indexer -> retrieval -> labeler -> selection -> payload -> trainer."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "plada"
LEAVES = {"errors", "extras", "files", "networks", "progress", "small_cnn", "units"}
SERVER = {"indexer", "retrieval", "labeler", "selection"}
MAY_IMPORT = {
    "sources": LEAVES,
    "indexer": LEAVES | {"sources"},
    "retrieval": LEAVES | {"sources", "indexer"},
    "labeler": LEAVES | {"sources", "indexer", "retrieval"},
    "selection": LEAVES | {"labeler", "payload"},
    "payload": {"errors", "files"},
    "trainer": LEAVES | {"sources", "payload"},
    "reports": {"errors", "files", "units"},
    "explorer": LEAVES | {"sources", "indexer", "retrieval", "payload", "reports"},
    **dict.fromkeys(LEAVES, LEAVES),
}
UNBOUND = {
    "__init__",
    "__main__",
    "api",
    "benching",
    "benchmark",
    "candidates",
    "checking",
    "cli",
    "cli_bench",
    "cli_explore",
    "cli_index",
    "cli_payload",
    "cli_report",
    "cli_search",
    "cli_select",
    "cli_train",
    "collecting",
    "completing",
    "composing",
    "console",
    "demonstration",
    "diagnosis",
    "exploring",
    "indexing",
    "inspecting",
    "labelling",
    "leaking",
    "linear_student",
    "options",
    "packing",
    "predicting",
    "reading",
    "reporting",
    "searching",
    "selected",
    "selecting",
    "sending",
    "showing",
    "signing",
    "streams",
    "teaching",
    "training",
    "updating",
    "verifying",
    "widening",
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield f"{node.module}" if node.module != "plada" else f"plada.{node.names[0].name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT or part in UNBOUND, f"{part} is in no rule"
    if part in MAY_IMPORT:
        own = {name.split(".")[1] for name in imported(path) if name.startswith("plada.")}
        assert own <= MAY_IMPORT[part] | {part}


def test_payload_needs_little_beside_numpy_and_zstandard() -> None:
    foreign = {
        name.partition(".")[0]
        for path in (PACKAGE / "payload").glob("*.py")
        for name in imported(path)
        if not name.startswith("plada.")
    }
    assert foreign - set(sys.stdlib_module_names) == {"numba", "numpy", "zstandard"}  # numba where it is there


def loaded_by(code: str) -> set[str]:
    """Top-level names in sys.modules after `code` ran in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted({{n.partition('.')[0] for n in sys.modules}}))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


HEAVY = {"torch", "torchvision", "timm", "lancedb", "lance", "faiss", "open_clip", "sklearn", "matplotlib"}


@pytest.mark.parametrize("code", ["import plada", "import plada.cli", "import plada.api.datasets"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_the_command_line_itself_does_not_even_load_numpy() -> None:
    assert not loaded_by("import plada.cli") & {"numpy", "pyarrow", "PIL"}


def test_a_client_trains_without_the_server_half(tmp_path: Path) -> None:
    code = """
import plada, numpy as np
images = plada.open_images("glyphs:count=64", home=r"%s")
payload = plada.Payload(np.arange(0, 40), np.arange(0, 40) %% 2, ("a", "b"), 64, images.manifest.key_id, images.manifest.content_id)
plada.train(payload, reference="glyphs:count=64", student="small_cnn", recipe={"epochs": 1}, home=r"%s")
import sys
print([name for name in sys.modules if name.startswith("plada.")], file=sys.stderr)
"""
    names = loaded_by(code % (tmp_path, tmp_path))
    assert not names & {"lancedb", "lance", "faiss"}


def test_a_client_never_imports_the_server_half(tmp_path: Path) -> None:
    code = f"""
import plada, sys
plada.datasets(home=r"{tmp_path}")
import plada.api.datasets, plada.networks.loop, plada.trainer.student, plada.trainer.export, plada.payload.inspect
assert not [n for n in sys.modules if n.startswith(tuple(f"plada.{{part}}" for part in {sorted(SERVER)}))]
"""
    loaded_by(code)
