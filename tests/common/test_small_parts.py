"""Units, files, progress, errors: the leaves that everything stands on."""

import errno
import os
from pathlib import Path

import pytest

from plada import errors
from plada.common.files import home_directory, whole_file, write_json
from plada.common.packages import require
from plada.common.progress import Clock, Progress, Tracker
from plada.common.units import format_size, parse_size
from plada.errors import MissingExtra, PladaError, RequestError, ResourceError, UnknownName


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MB", 1_000_000),
        ("1MiB", 1_048_576),
        ("2048", 2048),
        (512, 512),
        ("1.5 kB", 1500),
        ("2kb", 2000),
        ("1GiB", 2**30),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 tb", "1e3", "0", "one MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(RequestError, match=r"size '.*': expected"):
        parse_size(text)


def test_sizes_for_people() -> None:
    assert [format_size(n) for n in (999, 1987, 147_300, 1_020_000, 5_400_000_000)] == [
        "999 bytes", "1 987 bytes", "147.3 kB", "1.02 MB", "5.40 GB",
    ]  # fmt: skip


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert not path.exists()
    assert not list(path.parent.iterdir())
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No space left"), whole_file(tmp_path / "x") as part:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.glob("x*"))


def test_home_is_the_argument_then_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLADA_HOME", str(tmp_path / "variable"))
    assert home_directory(tmp_path / "argument") == tmp_path / "argument"
    assert home_directory() == tmp_path / "variable"
    monkeypatch.delenv("PLADA_HOME")
    assert home_directory().name == "plada"


def test_a_tracker_counts_and_ends_with_the_total() -> None:
    seen: list[Progress] = []
    tracker = Tracker("embed", 1000, seen.append)
    for _ in range(1000):
        tracker.advance()
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (1, 1000, 1000)
    assert len(seen) < 50


def test_a_clock_adds_up_and_survives_errors() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="x"), clock("a"):
        raise ValueError("x")
    with clock("a"), clock("b"):
        pass
    assert set(clock.seconds) == {"a", "b"}


def test_exit_statuses_are_those_of_the_design() -> None:
    known = {
        name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, PladaError)
    }
    assert {name: value.exit_code for name, value in known.items()} == {
        "PladaError": 1, "RequestError": 2, "UnknownName": 2, "BudgetTooSmall": 2, "MissingExtra": 2, "EncoderMissing": 2,
        "PayloadError": 3, "PayloadTruncated": 3, "PayloadCorrupt": 3, "PayloadUnsupported": 3,
        "SideMissing": 3, "SignatureError": 3,
        "ReferenceMismatch": 4, "DataError": 5, "Unreadable": 5, "Interrupted": 6, "ResourceError": 7,
    }  # fmt: skip
    assert errors.__doc__ is not None
    for name, value in known.items():
        assert name in errors.__doc__, f"the tree in errors.py does not show {name}"
        assert value.__doc__


def test_an_unknown_name_lists_what_exists_and_the_nearest() -> None:
    error = UnknownName("rule", "blanced", ["balanced", "energy"])
    assert str(error) == "unknown rule 'blanced'; did you mean 'balanced'?; known: balanced, energy"
    assert (error.nearest, error.known) == ("balanced", ["balanced", "energy"])
    assert str(UnknownName("index", "x", [])) == "unknown index 'x'; there is no index yet"


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r"search needs no_such_package, which is not installed.*\[cpu\]"):
        require("no_such_package", extra="cpu", purpose="search")


def test_a_broken_package_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('wrong CUDA')")
    (tmp_path / "lacking_package.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"does not load \(wrong CUDA\)"):
        require("broken_package", extra="cpu", purpose="search")
    with pytest.raises(MissingExtra, match="lacks no_such_package"):
        require("lacking_package", extra="cpu", purpose="search")
