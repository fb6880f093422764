"""The rooms of plada/ and what they may import: only rooms below. docs/architecture.md draws them."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "plada"

# From the ground up. A room imports rooms before it in this list; that `import plada` stands below commands lets these call
# the public names.
ROOMS = [
    "errors", "common", "payload", "sources", "networks", "encoders", "indexer", "retrieval", "labeler", "selection", "trainer",
    "reports", "explorer", "benchmark", "api", "__init__", "commands", "cli", "__main__",
]  # fmt: skip
APART = [{"payload", "sources"}, {"explorer", "benchmark"}]  # these do not import each other in either direction

FILES = {"__init__.py", "__main__.py", "cli.py", "errors.py", "py.typed"}  # all else in plada/ is a package
ENTRIES = 20  # in plada/
MODULES = 20  # in a package, without those of its sub-packages
LATE = 20  # imports of plada within functions

HEAVY = {"torch", "torchvision", "timm", "lancedb", "lance", "faiss", "open_clip", "sklearn", "matplotlib", "ray"}
# Packages that a function may import without a reason on the line: they take long to load, or come with an extra alone.
IN_FUNCTIONS = HEAVY | {
    "cryptography", "datasets", "filelock", "fsspec", "google_crc32c", "huggingface_hub", "loky", "numba", "pyarrow", "raptorq", "rich", "safetensors",
    "scipy", "tensorboardX", "tfrecord", "threadpoolctl", "uvicorn",
}  # fmt: skip
# Modules that need such a package to define anything; whoever imports them does it in a function.
LOADS_A_PACKAGE = {
    "plada.networks.small_cnn": "torch",
    "plada.trainer.dataset.torch_dataset": "torch",
    "plada.explorer.app": "starlette",
    "plada.explorer.guard": "starlette",
}


@dataclass(frozen=True)
class Import:
    """One module that a module imports. `late`: within a function. `reason`: the comment on its line."""

    module: str
    line: int
    target: str
    late: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.target}"

    @property
    def ours(self) -> bool:
        return self.target.partition(".")[0] == "plada"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """`plada.sources.decode` stands in `sources`; `plada` itself is __init__.py."""
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a module, also those in functions and for type checkers alone."""
    source = path.read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        reason = " ".join(comments.get(line, "") for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))
        reason = re.sub(r"# *(noqa|type:)[^#]*", "", reason).strip("# ")
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; name the module in full"
            targets = [f"{node.module}"]
            if node.module == "plada":  # from plada import errors
                targets = [f"plada.{alias.name}" if _exists(alias.name) else "plada" for alias in node.names]
        for target in targets:
            yield Import(module_of(path), node.lineno, target, id(node) in late, reason)


def _exists(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()


@cache
def every_import() -> list[Import]:
    return [each for path in sorted(PACKAGE.rglob("*.py")) for each in imports_of(path)]


def test_imports_point_down() -> None:
    ours = [each for each in every_import() if each.ours]
    upward = [
        str(each)
        for each in ours
        if ROOMS.index(room_of(each.module)) < ROOMS.index(room_of(each.target))
        or {room_of(each.module), room_of(each.target)} in APART
    ]
    print(f"imports of plada: {len(ours)}, of these upward: {len(upward)}")
    assert len(ours) > 500
    assert not upward, "\n".join(upward)


def test_imports_of_plada_stand_at_the_top_or_say_why_not() -> None:
    late = [each for each in every_import() if each.ours and each.late]
    print(f"imports of plada within functions: {len(late)}")
    without = [str(each) for each in late if len(each.reason.split()) < 2]
    assert not without, "no reason on the line:\n" + "\n".join(without)
    assert len(late) <= LATE


def test_imports_of_other_packages_stand_at_the_top_or_say_why_not() -> None:
    late = [each for each in every_import() if each.late and not each.ours]
    without = [
        str(each)
        for each in late
        if each.target.partition(".")[0] not in IN_FUNCTIONS and len(each.reason.split()) < 2
    ]  # fmt: skip
    assert not without, "no reason on the line:\n" + "\n".join(without)


def test_plada_is_a_few_files_and_rooms() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert entries == FILES | {room for room in ROOMS if (PACKAGE / room).is_dir()}
    assert len(entries) <= ENTRIES
    assert [room for room in ROOMS if not _exists(room)] == []


def test_the_page_shows_the_rooms_in_order() -> None:
    """The tree in docs/architecture.md is the list above, from the roof down."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("```text\nplada/\n")[2].partition("```")[0]
    shown = [name.removesuffix(".py") for name in re.findall(r"^  (\w+)(?:/|\.py)", tree, re.MULTILINE)]
    assert ["__main__", *shown] == ROOMS[::-1]


def test_no_package_has_too_many_modules() -> None:
    counts = {
        module_of(path): len(list(path.parent.glob("*.py"))) - 1  # __init__.py is the package itself
        for path in PACKAGE.rglob("__init__.py")
        if path.parent != PACKAGE
    }
    assert {name: count for name, count in counts.items() if count > MODULES} == {}
    assert {path.parent for path in PACKAGE.rglob("*.py")} == {path.parent for path in PACKAGE.rglob("__init__.py")}


def test_payload_needs_little_beside_numpy_and_zstandard() -> None:
    foreign = {
        each.target.partition(".")[0]
        for each in every_import()
        if room_of(each.module) == "payload" and not each.ours
    }  # fmt: skip
    # numba makes it faster, cryptography signs, raptorq carries carousels; each only where it is installed.
    assert foreign - set(sys.stdlib_module_names) == {"cryptography", "numba", "numpy", "raptorq", "zstandard"}


@pytest.mark.parametrize(
    ("source", "upward", "late"),
    [
        ("from plada.api.select import select", True, False),
        ("from plada.common.files import home_directory", False, False),
        ("from plada.payload.payload import Payload", True, False),
        ("import plada", True, False),
        ("from plada import errors", False, False),
        ("def f():\n    import plada.trainer.model  # it takes long", True, True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from plada.cli import app", True, False),
    ],
)
def test_the_walk_sees_every_import(source: str, upward: bool, late: bool, tmp_path: Path) -> None:
    path = tmp_path / "decode.py"
    path.write_text(source)
    (found,) = [each for each in imports_in_sources(path) if each.ours]
    low, high = ROOMS.index("sources"), ROOMS.index(room_of(found.target))
    assert (low < high or {"sources", room_of(found.target)} in APART) == upward
    assert found.late == late
    assert found.reason == ("it takes long" if late else "")


def imports_in_sources(path: Path) -> list[Import]:
    """The imports of a file as if it stood in plada/sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "module_of", lambda _: "plada.sources.decode")
        return list(imports_of(path))


def loaded_by(code: str) -> set[str]:
    """Top-level names in sys.modules after `code` ran in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted({{n.partition('.')[0] for n in sys.modules}}))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_importing_loads_nothing_heavy() -> None:
    """Whatever of plada is imported; what cannot be without its package is imported in functions alone."""
    modules = sorted({each.module for each in every_import()} - LOADS_A_PACKAGE.keys() - {"plada.__main__"})
    loaded = loaded_by(f"import {', '.join(modules)}")
    assert not loaded & (IN_FUNCTIONS - {"pyarrow", "rich"} | set(LOADS_A_PACKAGE.values()))
    users = [each for each in every_import() if each.target in LOADS_A_PACKAGE]
    assert [str(each) for each in users if not each.late and each.module not in LOADS_A_PACKAGE] == []


def test_the_command_line_itself_does_not_even_load_numpy() -> None:
    assert not loaded_by("import plada.cli") & (IN_FUNCTIONS - {"rich"} | {"numpy", "PIL"})


def test_a_client_trains_without_the_server_half(tmp_path: Path) -> None:
    code = """
import plada, numpy as np
images = plada.open_images("glyphs:count=64", home=r"%s")
payload = plada.Payload(np.arange(0, 40), np.arange(0, 40) %% 2, ("a", "b"), 64, images.manifest.key_id, images.manifest.content_id)
plada.train(payload, reference="glyphs:count=64", student="small_cnn", recipe={"epochs": 1}, home=r"%s")
"""
    assert not loaded_by(code % (tmp_path, tmp_path)) & {"lancedb", "lance", "faiss"}
