"""The wheel as strangers get it: built, looked into, installed elsewhere and used there."""

import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAID = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("hatchling") is None, reason="no hatchling here (it is in pladata[dev])"
    ),
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="no pip here"),
]


def run(*command: str | Path, **options: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, env={**os.environ, **options}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the back end that is here: nothing is downloaded."""
    place = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", place, ROOT,
    )  # fmt: skip
    (made,) = place.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the installed wheel; a working directory far from the source tree lies beside it."""
    place = tmp_path_factory.mktemp("site")
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check",
        "--target", place, wheel,
    )  # fmt: skip
    yield place


def away(place: Path, tmp_path: Path, *command: str | Path) -> str:
    """Run something with the installed package alone in front of the path, in another working directory."""
    return run(
        *command,
        PYTHONPATH=f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        PYTHONSAFEPATH="1",
        PWD=str(tmp_path),
    )


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {name for name in names if name.startswith("plada/")}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "plada").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package == sources
    assert {"plada/py.typed", "plada/reports/report.css", "plada/reports/report.js"} <= package
    others = {name.partition("/")[0] for name in names - package}
    assert others == {f"pladata-{SAID['version']}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_its_metadata_are_those_of_the_project(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (place,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = HeaderParser().parsestr(archive.read(place).decode())
        commands = archive.read(place.replace("METADATA", "entry_points.txt")).decode()
    assert (about["Name"], about["Version"]) == ("pladata", SAID["version"])
    assert about["Requires-Python"] == SAID["requires-python"]
    assert set(about.get_all("Provides-Extra") or ()) == set(SAID["optional-dependencies"])
    bare = [need for need in about.get_all("Requires-Dist") or () if "extra ==" not in need]
    assert len(bare) == len(SAID["dependencies"])
    assert not [need for need in bare if need.startswith(("torch", "lancedb", "faiss"))]
    assert "plada = plada.cli:main" in commands


def test_the_command_runs_away_from_the_source_tree(elsewhere: Path, tmp_path: Path) -> None:
    assert away(elsewhere, tmp_path, sys.executable, "-m", "plada", "--version") == f"plada {SAID['version']}\n"
    assert away(elsewhere, tmp_path, elsewhere / "bin" / "plada", "--version") == f"plada {SAID['version']}\n"


def test_the_whole_way_in_small_away_from_the_source_tree(elsewhere: Path, tmp_path: Path) -> None:
    code = f"""
import os
os.chdir({str(tmp_path)!r})
import plada
assert plada.__file__.startswith({str(elsewhere)!r}), plada.__file__
plada.index("glyphs:count=400", name="g", home="home")
made = plada.select("g", target="digits", budget=200, rule="balanced", out="d.plada", home="home")
made.write_table("d.parquet")
assert made.report.bytes == len(open("d.plada", "rb").read()) <= 200
plada.report("d.plada", out="d.html", selection="d.parquet", pictures=10, home="home")
page = open("d.html", encoding="utf-8").read()
assert "<style>" in page and "<script" in page
done = plada.train("d.plada", student="small_cnn", recipe={{"epochs": 1}}, home="home", out="m.safetensors")
print(done.images, os.path.getsize("m.safetensors") > 0)
"""
    images, written = away(elsewhere, tmp_path, sys.executable, "-c", code).split()
    assert int(images) >= 10
    assert written == "True"
