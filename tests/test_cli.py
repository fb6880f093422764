"""The command line: JSON as promised, one line and the right exit status for everything a user can cause."""

import inspect
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import plada
from plada.cli import app
from tests.conftest import picture


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def summary(*arguments: str | Path) -> dict[str, Any]:
    """The last line of a command's --json output, after checking that every line is a JSON object with a type."""
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["type"] for line in lines[:-1]} <= {"progress"}
    assert all({"stage", "done", "total", "rate"} <= set(line) for line in lines[:-1])
    assert lines[-1].pop("type") == "summary"
    last: dict[str, Any] = lines[-1]
    return last


def refused(status: int, kind: str, *arguments: str | Path) -> str:
    """The message of a command that must fail: one line without --json, one object with it, never a traceback."""
    plain = call(*arguments)
    assert (plain.exit_code, plain.stdout) == (status, ""), plain.output
    *progress, last = plain.stderr.splitlines()
    assert last.startswith("plada: ")
    assert not [
        line
        for line in progress
        if not re.match(
            r"[a-z: ]+: (\d+ of \d+, \d+/s|reading embeddings$|still working$|sorting scores$|counting what fits$|trying [a-z0-9.-]+, )",
            line,
        )
    ], plain.stderr
    as_json = call(*arguments, "--json")
    error = json.loads(as_json.stderr)
    assert (as_json.exit_code, error["type"], error["code"], error["kind"]) == (status, "error", status, kind)
    assert "Traceback" not in plain.output + as_json.output
    message: str = error["message"]
    return message


@pytest.fixture
def made(digits_file: Path, tmp_path: Path) -> Path:
    """A payload for digits out of the 1 500 glyphs, which a test may write to."""
    return Path(shutil.copy(digits_file, tmp_path))


def test_index(pictures: Path) -> None:
    found = summary("index", pictures, "--name", "p", "--encoder", "gradients")
    assert set(found) >= {
        "name", "images", "unreadable", "dimension", "encoder", "key_id", "content_id", "images_per_second", "seconds", "path",
    }  # fmt: skip
    assert set(found["seconds"]) == {"list", "load", "embed", "commit"}
    assert len(found["key_id"]) == len(found["content_id"]) == 32
    again = call("index", pictures, "--name", "p", "--encoder", "gradients")
    assert "24 of them from an earlier run" in again.stdout


def test_index_names_what_it_could_not_read(pictures: Path) -> None:
    (pictures / "n0" / "image_00.png").write_bytes(b"broken")
    done = call("index", pictures, "--name", "p", "--encoder", "gradients", "--quiet")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert "n0/image_00" in done.stdout
    assert "not an image of a known kind" in done.stdout


def test_select(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    out, sheet, table = tmp_path / "x.plada", tmp_path / "x.png", tmp_path / "x.parquet"
    found = summary(
        "select",
        "--target",
        few_digits,
        "--budget",
        "400",
        "--home",
        glyph_home,
        "-o",
        out,
        "--sheet",
        sheet,
        "--table",
        table,
    )
    assert set(found) >= {
        "payload", "bytes", "budget", "images", "classes", "class_counts", "keep_rate", "rule", "coder", "teacher", "tried", "seconds",
    }  # fmt: skip
    assert set(found["teacher"]) >= {"kind", "accuracy", "validation_accuracy"}
    assert set(found["tried"][0]) >= {"rule", "keep", "bytes", "validation_accuracy"}
    assert found["bytes"] == out.stat().st_size <= 400
    assert found["bytes"] >= 0.98 * 400
    import pyarrow.parquet as pq

    assert pq.read_table(table).column_names == ["position", "key", "label", "score", "class_rank"]
    with Image.open(sheet) as image:
        assert image.size[1] > 10 * 64
    first = out.read_bytes()
    assert call("select", "--target", few_digits, "--budget", "400", "--home", glyph_home, "-o", out).exit_code == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize("rule", ["paper", "random", "spread", "energy"])
def test_select_by_other_rules(glyph_home: Path, few_digits: Path, tmp_path: Path, rule: str) -> None:
    found = summary(
        "select",
        "--target",
        few_digits,
        "--budget",
        "300",
        "--rule",
        rule,
        "--home",
        glyph_home,
        "-o",
        tmp_path / "x.plada",
    )
    assert found["rule"] == rule
    assert found["bytes"] <= 300


def test_select_with_a_network_as_teacher(glyph_home: Path, tmp_path: Path) -> None:
    found = summary(
        "select", "--target", "digits", "--budget", "300", "--teacher", "finetune:small_cnn", "--home", glyph_home, "-o", tmp_path / "x.plada"
    )  # fmt: skip
    assert found["teacher"]["kind"] == "finetune:small_cnn"
    assert found["teacher"]["accuracy"] > 0.8


def test_select_for_a_folder(
    glyph_home: Path, target_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (target_folder / "train" / "dim" / "0.png").write_bytes(b"broken")
    done = call("select", "--target", target_folder, "--budget", "20kB", "--home", glyph_home, "--quiet")
    assert done.exit_code == 0, done.output
    assert "1 images of the target could not be read and were left out: dim/0" in done.stderr
    found = summary("inspect", tmp_path / "shades.plada", "--home", glyph_home)
    assert found["notes"]["target"] == "shades"
    assert set(found["class_counts"]) == {"bright", "dim"}


def test_train(made: Path, glyph_home: Path, tmp_path: Path) -> None:
    found = summary(
        "train", made, "--reference", "glyphs:count=1500", "--student", "small_cnn", "--target", "digits",
        "--recipe", "epochs=20", "--recipe", "mirror=false", "--home", glyph_home, "-o", tmp_path / "m.safetensors",
    )  # fmt: skip
    assert set(found) >= {"student", "images", "epochs", "accuracy", "model", "seconds"}
    assert found["accuracy"] > 0.5
    assert Path(found["model"]).exists()
    plain = call(
        "train",
        made,
        "--student",
        "small_cnn",
        "--recipe",
        "epochs=1",
        "--home",
        glyph_home,
        "-o",
        tmp_path / "n.safetensors",
    )
    assert "not tested; name a --target" in plain.stdout


def test_inspect(made: Path) -> None:
    found = summary("inspect", made)
    assert set(found) >= {
        "version", "images", "classes", "bytes", "sections", "coder", "coders", "key_id", "content_id", "signed",
    }  # fmt: skip
    assert sum(found["sections"].values()) == found["bytes"] == made.stat().st_size
    assert "payload version 2" in call("inspect", made).stdout


def test_report(made: Path, glyph_home: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    found = summary("report", made, "--budget", "1kB", "--pictures", "20", "--home", glyph_home, "-o", out)
    assert set(found) >= {"report", "bytes", "payload_bytes", "budget", "images", "classes", "pictures", "unknown"}
    assert (found["bytes"], found["budget"], found["pictures"]) == (out.stat().st_size, 1000, 20)
    plain = call("report", made, "--home", glyph_home, "-o", out, "--quiet")
    assert f"{out}: " in plain.stdout
    assert "not in it: Scores" in plain.stderr
    assert "name the --model" in refused(2, "RequestError", "report", made, "--target", "digits", "-o", out)
    assert "no such" in refused(2, "RequestError", "report", tmp_path / "none.plada", "-o", out).lower()


def test_bench(glyph_home: Path, target_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    asked = (
        "bench", "--index", "glyphs", "--targets", target_folder, "--budgets", "90,0.2kB", "--methods", "oracle,random,herd-sure-manifest",
        "--keep", "2%", "--seeds", "1", "--client-has", "manifest", "--home", glyph_home, "--workers", "1",
    )  # fmt: skip
    found = summary(*asked, "--out", out)
    assert set(found) >= {"rows", "measured", "accuracy", "lead", "ahead", "table", "document", "pictures", "seconds"}
    assert found["budgets"] == [90, 200]
    assert set(found["accuracy"]["random"]) == set(found["lead"]) == {"90", "200"}
    assert Path(found["table"]).exists()
    again = call(*asked, "--out", out)
    assert again.exit_code == 0, again.output
    assert "0 of them measured now" in again.stdout
    assert "herd-sure-manifest" in again.stdout
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert "holds something that is no benchmark" in refused(2, "RequestError", *asked, "--out", tmp_path / "full")
    assert "did you mean 'herd-sure-manifest'" in refused(
        2, "UnknownName", *(part if part != "oracle,random,herd-sure-manifest" else "herd-sure-manifes" for part in asked), "--out", out
    )  # fmt: skip


def test_search(glyph_home: Path, tmp_path: Path) -> None:
    found = summary("search", "position:5", "-k", "3", "--home", glyph_home)
    assert [set(hit) for hit in found["hits"]] == [{"position", "key", "score"}] * 3
    assert found["hits"][0]["position"] == 5
    picture(1).save(tmp_path / "query.png")
    two = summary(
        "search", "position:5", tmp_path / "query.png", "-k", "2", "--home", glyph_home, "--sheet", tmp_path / "s.png"
    )
    assert [hit["query"] for hit in two["hits"]] == ["position:5"] * 2 + [str(tmp_path / "query.png")] * 2
    assert (tmp_path / "s.png").exists()
    assert "v1/0000005" in call("search", "position:5", "--home", glyph_home).stdout


def test_export(made: Path, glyph_home: Path, tmp_path: Path) -> None:
    assert summary("export", made, "--to", "csv", "-o", tmp_path / "x.csv", "--home", glyph_home)["out"] == str(
        tmp_path / "x.csv"
    )
    assert (
        len((tmp_path / "x.csv").read_text().splitlines())
        == summary("inspect", made, "--home", glyph_home)["images"] + 1
    )


def test_datasets(glyph_home: Path) -> None:
    found = {entry["name"]: entry for entry in summary("datasets", "--home", glyph_home)["datasets"]}
    assert found["glyphs"]["present"]
    assert found["glyphs"]["indexed"]
    assert found["imagenet21k"]["images"] == 14_197_122
    assert not found["imagenet21k"]["present"]
    assert "not here; looked in" in call("datasets", "--home", glyph_home).stdout


def test_doctor(glyph_home: Path) -> None:
    found = summary("doctor", "--home", glyph_home)
    assert {"torch", "lancedb", "faiss-cpu"} <= {package["name"] for package in found["packages"]}
    assert found["indexes"] == ["glyphs"]
    assert found["torch_devices"][0] == "cpu"
    assert str(glyph_home) in call("doctor", "--home", glyph_home).stdout


def test_version_and_help() -> None:
    assert call("--version").stdout == f"plada {plada.__version__}\n"
    shown = call("--help").stdout
    for command in (
        "index", "select", "train", "predict", "evaluate", "export", "inspect", "report", "explore", "bench", "diff", "apply", "keygen", "sign", "search", "datasets", "demo", "doctor",
    ):  # fmt: skip
        assert command in shown
        assert call(command, "--help").exit_code == 0
    assert call("no-such-command").exit_code == 2
    assert call("train").exit_code == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("select", "--json"), "plada select: Missing option '--target'"),
        (("select", "--json", "--nope"), "No such option: --nope"),
        (("inspect", "--json"), "plada inspect: Missing argument 'payload'"),
        (("search", "x", "-k", "many", "--json"), "plada search: Invalid value for '-k'"),
        (("predict", "x.png", "--model", "m", "--top", "0", "--json"), "plada predict: Invalid value for '--top'"),
        (("no-such-command", "--json"), "plada: No such command 'no-such-command'"),
        (("--nope", "doctor", "--json"), "plada: No such option: --nope"),
    ],
)
def test_a_command_line_that_cannot_be_understood(words: tuple[str, ...], reason: str) -> None:
    done = call(*words)
    error = json.loads(done.stderr)
    assert (done.exit_code, done.stdout) == (2, "")
    assert (error["type"], error["code"], error["kind"]) == ("error", 2, "RequestError")
    assert reason in error["message"]
    assert " --help` lists what there is" in error["message"]
    plain = call(*(word for word in words if word != "--json"), *(("--", "--json") if "search" in words else ()))
    assert plain.exit_code == 2
    assert plain.stderr.startswith("Usage: plada")


def test_json_and_quiet_give_the_summary_alone(made: Path, glyph_home: Path, pictures: Path, tmp_path: Path) -> None:
    for words in (
        ("datasets",),
        ("search", "position:1", "position:2"),
        ("inspect", made),
        ("index", pictures, "--name", "p", "--encoder", "gradients"),
        ("select", "--target", "digits", "--budget", "400", "--rule", "nearest", "-o", tmp_path / "x.plada"),
        ("train", made, "--student", "linear", "--target", "digits", "-o", tmp_path / "x.safetensors"),
    ):
        home = tmp_path / "home" if words[0] == "index" else glyph_home
        done = call(*words, "--home", home, "--json", "--quiet")
        assert done.exit_code == 0, done.output
        assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == ["summary"], words
        assert done.stderr == ""


def test_every_command_is_a_python_call_of_the_same_name() -> None:
    renamed = {
        "as_json": None, "quiet": None, "model_arg": "model_args", "query": "queries", "approximate": "exact",
        "teacher_weights": "weights", "url": "urls", "pack_out": "out", "pack_dimensions": "dimensions",
        "beside": "name",
    }  # fmt: skip
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__
        wanted = {renamed.get(p, p) for p in inspect.signature(command.callback).parameters} - {None}
        if name == "index":  # options that do something else than index are calls of their own
            assert {"source", "encoder", "weights"} <= arguments(plada.forecast)
            assert "full" in arguments(plada.check_index)
            wanted -= {"dry_run", "check", "full"}
            wanted -= {"incomplete", "column", "image_extension"}  # stand before the place: incomplete:PLACE
        if name == "pull":  # with --watch it is a call of its own
            assert "every" in arguments(plada.watch)
            wanted -= {"watch", "every"}
        if name in ("config", "indexes"):  # their words (set, show, remove) choose between arguments of the call
            wanted -= {"action", "new", "yes"}
        if name == "encoders":  # plada.encoders is a package
            name = "known_encoders"
        wanted -= {"yes"}
        if name == "select":
            wanted -= {"sheet", "percentiles", "histogram"}  # methods of what it returns
        assert wanted <= arguments(getattr(plada, name)), name


def arguments(call: Callable[..., Any]) -> set[str]:
    """The parameters of a call, and the fields of dataclasses that it takes."""
    hints = get_type_hints(call)
    grouped = [part for hint in hints.values() for part in (hint, *get_args(hint)) if is_dataclass(part)]
    return set(hints) | {field.name for group in grouped for field in fields(group)}


def unknown_names(home: Path, made: Path, pictures: Path) -> dict[str, tuple[str, tuple[str | Path, ...]]]:
    select = ("select", "--budget", "400", "--home", home)
    return {
        "data set": ("did you mean 'glyphs'", ("index", "glyfs")),
        "target": ("did you mean 'digits'", (*select, "--target", "digit")),
        "encoder": (
            "did you mean 'gradients'; known: clip, clip-b16, clip-l, dinov2-s, gradients, mobilenet",
            ("index", pictures, "--encoder", "gradient"),
        ),
        "rule": ("did you mean 'nearest'", (*select, "--target", "digits", "--rule", "nearst")),
        "teacher": ("finetune:ARCH, linear", (*select, "--target", "digits", "--teacher", "oracle")),
        "network": ("did you mean 'resnet18'", ("train", made, "--home", home, "--student", "resnet_18")),
        "index": ("did you mean 'glyphs'", ("search", "position:1", "--index", "glyph", "--home", home)),
        "recipe option": ("did you mean 'epochs'", ("train", made, "--home", home, "--recipe", "epoch=3")),
        "export form": (
            "known: csv, folder, hf, parquet, tfrecord, webdataset",
            ("export", made, "--to", "arrow", "-o", "x", "--home", home),
        ),
    }


def test_unknown_names_list_what_exists(glyph_home: Path, made: Path, pictures: Path) -> None:
    for kind, (expected, arguments) in unknown_names(glyph_home, made, pictures).items():
        message = refused(2, "UnknownName", *arguments)
        assert expected.replace("'; known", "'?; known") in message, f"{kind}: {message}"


def test_a_budget_too_small_says_the_least(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    arguments = ("select", "--target", few_digits, "--home", glyph_home, "-o", tmp_path / "x.plada")
    message = refused(2, "BudgetTooSmall", *arguments, "--budget", "40")
    assert "one label for each of 10 classes needs a file of" in message
    least = message.rpartition("--budget ")[2].split()[0]
    assert summary(*arguments, "--budget", least)["images"] == 10
    refused(2, "BudgetTooSmall", *arguments, "--budget", str(int(least) - 1))
    assert "expected a number with" in refused(2, "RequestError", *arguments, "--budget", "lots")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image found" in refused(5, "DataError", "index", tmp_path / "empty", "--encoder", "gradients")


@pytest.mark.parametrize("teacher", ["linear", "finetune:small_cnn"])
def test_a_class_that_cannot_be_learned(glyph_home: Path, target_folder: Path, tmp_path: Path, teacher: str) -> None:
    for path in (target_folder / "train" / "dim").iterdir():
        path.write_bytes(b"broken")
    arguments = (
        "select",
        "--target",
        target_folder,
        "--teacher",
        teacher,
        "--home",
        glyph_home,
        "-o",
        tmp_path / "x.plada",
    )
    assert "class 'dim' has no readable training image" in refused(5, "DataError", *arguments)


def test_a_payload_of_another_reference(made: Path) -> None:
    message = refused(4, "ReferenceMismatch", "train", made, "--reference", "glyphs:count=60", "--student", "small_cnn")
    assert "labels a reference of 1500 images" in message


def test_bad_payload_files(made: Path, tmp_path: Path) -> None:
    cut, bent, newer = tmp_path / "cut.plada", tmp_path / "bent.plada", tmp_path / "newer.plada"
    data = made.read_bytes()
    cut.write_bytes(data[:-7])
    bent.write_bytes(data[:60] + bytes([data[60] ^ 8]) + data[61:])
    newer.write_bytes(data[:4] + b"\x07" + data[5:])
    for path, kind in ((cut, "PayloadTruncated"), (bent, "PayloadCorrupt"), (newer, "PayloadUnsupported")):
        for command in (("inspect", path), ("train", path), ("export", path, "--to", "csv", "-o", tmp_path / "x.csv")):
            assert str(path) in refused(3, kind, *command)
    assert "cannot be read" in refused(2, "RequestError", "inspect", tmp_path / "none.plada")


def test_options_that_are_no_pairs(made: Path) -> None:
    assert "expected NAME=VALUE" in refused(2, "RequestError", "train", made, "--recipe", "epochs")


class OutOfMemoryError(RuntimeError):
    """Named as torch's own, which needs a GPU to happen."""


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 6, "Resume with: plada"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), 7, "out of memory (CUDA out of memory)"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED\nException raised"), 7, "out of memory (cuDNN error"),
        (
            RuntimeError("CUDA error: device-side assert\nmore"),
            7,
            "failed (CUDA error: device-side assert). `plada doctor`",
        ),
        (MemoryError("no room"), 7, "out of memory (no room)"),
        (OSError(28, "No space left on device", "/x"), 7, "No space left on device (/x)"),
    ],
)
def test_what_the_machine_does(monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str) -> None:
    def fail(*_: object, **__: object) -> Callable[..., Any]:
        raise error

    monkeypatch.setattr(plada, "datasets", fail)
    done = call("datasets")
    assert done.exit_code == status
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("a mistake of ours"), OSError(2, "nothing we planned")])
def test_what_nobody_planned_is_not_hidden(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(plada, "datasets", fail)
    done = call("datasets")
    assert done.exit_code == 1
    assert done.exception is error


def selecting(home: Path, target: Path, out: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("select", "--target", target, "--home", home, "-o", out, *more)


def test_select_auto_says_what_it_tried(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    found = summary(*selecting(glyph_home, few_digits, tmp_path / "x", "--budget", "400", "--rule", "auto"))
    assert len(found["tried"]) > 3
    for one in found["tried"]:
        assert set(one) >= {"rule", "keep", "bytes", "validation_accuracy"}
        assert isinstance(one["rule"], str)
        assert one["keep"] >= 10
        assert one["bytes"] > 0
        assert 0 <= one["validation_accuracy"] <= 1
    won = next(one for one in found["tried"] if one["rule"] == found["rule"] and one["bytes"] == found["bytes"])
    assert (won["keep"], found["bytes"]) == (found["images"], (tmp_path / "x").stat().st_size)
    assert found["forecast"]["interval"][0] <= found["forecast"]["accuracy"] <= found["forecast"]["interval"][1]


def test_select_the_papers_way(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    found = summary(
        *selecting(glyph_home, few_digits, tmp_path / "x", "--rule", "paper", "--keep", "2%", "--budget", "10kB")
    )
    assert (found["rule"], found["images"], found["keep_rate"]) == ("paper", 30, 0.02)
    assert len(found["tried"]) == 1
    message = refused(2, "RequestError", *selecting(glyph_home, few_digits, tmp_path / "x", "--keep", "120%"))
    assert "expected a share such as 1%" in message
    done = call(
        *selecting(glyph_home, few_digits, tmp_path / "x", "--rule", "paper", "--keep", "50%", "--budget", "300")
    )
    assert done.exit_code == 2
    assert "750 images need a file of" in done.stderr


def test_select_pictures(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    summary(
        *selecting(glyph_home, few_digits, tmp_path / "x", "--budget", "400", "--rule", "balanced",
            "--percentiles", tmp_path / "p.png", "--histogram", tmp_path / "h.png",
        )
    )  # fmt: skip
    for name in ("p.png", "h.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 300


def test_select_with_a_persons_corrections(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    table = tmp_path / "t.parquet"
    plain = selecting(glyph_home, few_digits, tmp_path / "x", "--budget", "400", "--rule", "balanced", "--table", table)
    summary(*plain)
    rows = pq.read_table(table).to_pylist()
    (tmp_path / "out.txt").write_text(f"# not this one\n{rows[0]['key']}\n")
    (tmp_path / "fix.csv").write_text(f"key,label\n{rows[1]['key']},{(rows[1]['label'] + 1) % 10}\n")
    summary(*plain, "--exclude", tmp_path / "out.txt", "--relabel", tmp_path / "fix.csv")
    after = {row["key"]: row["label"] for row in pq.read_table(table).to_pylist()}
    assert rows[0]["key"] not in after
    assert after[rows[1]["key"]] == (rows[1]["label"] + 1) % 10
    (tmp_path / "fix.csv").write_text(f"key,label\n{rows[1]['key']},eleven\n")
    assert "eleven" in refused(5, "DataError", *plain, "--relabel", tmp_path / "fix.csv")
    (tmp_path / "out.txt").write_text("no/such/key\n")
    assert "no/such/key" in refused(5, "DataError", *plain, "--exclude", tmp_path / "out.txt")


def test_select_exhaustive(glyph_home: Path, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "looking.py").write_text(
        "import numpy as np\n"
        "def say(images):\n"
        "    return [[float(np.asarray(image).mean()) * (c + 1) % 7 for c in range(10)] for image in images]\n"
    )
    monkeypatch.chdir(tmp_path)
    some = selecting(
        glyph_home,
        few_digits,
        tmp_path / "x",
        "--teacher",
        "looking:say",
        "--force",
        "--budget",
        "400",
        "--rule",
        "balanced",
    )
    shortlist = summary(*some)["looked_at"]
    assert 0 < shortlist < 1500 == summary(*some, "--exhaustive")["looked_at"]


def test_select_with_a_teacher_at_chance(glyph_home: Path, tmp_path: Path) -> None:
    root = tmp_path / "noise"
    for part in ("train", "test"):
        for number in range(40):
            place = root / part / "ab"[number % 2] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            picture(1000 + number + 100 * (part == "test"), (16, 16)).save(place)
    some = (
        "select",
        "--target",
        root,
        "--home",
        glyph_home,
        "-o",
        tmp_path / "x",
        "--budget",
        "400",
        "--rule",
        "balanced",
    )
    assert "--force" in refused(5, "DataError", *some)
    assert summary(*some, "--force")["images"] > 0


def test_select_without_copies_and_with_soft_labels(glyph_home: Path, few_digits: Path, tmp_path: Path) -> None:
    some = selecting(glyph_home, few_digits, tmp_path / "x", "--budget", "600", "--rule", "balanced")
    assert summary(*some, "--distinct", "0.9")["copies"] > 0
    assert "cosine of 3" in refused(2, "RequestError", *some, "--distinct", "3")
    found = summary(*some, "--labels", "soft")
    assert found["labels"] == "soft"
    assert 0 < found["label_bytes"] < found["bytes"] == (tmp_path / "x").stat().st_size
    assert "kind of labels" in refused(2, "UnknownName", *some, "--labels", "mushy")
