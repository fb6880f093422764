"""Threads of torch: what is free, what was said, and what a run that goes on began with."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import RequestError
from plada.networks import threads
from plada.networks.network import NetworkSpec, build_network, size_note, start_note
from plada.networks.threads import torch_threads


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """torch with four threads, of which two processors are free, and nothing said."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "free_cores", lambda: 2)
    yield monkeypatch
    torch.set_num_threads(before)


def test_what_is_free_is_the_default_and_what_is_said_counts(four: pytest.MonkeyPatch) -> None:
    with torch_threads() as count:
        assert count == torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4
    with torch_threads(3) as count:
        assert count == torch.get_num_threads() == 3
    four.setenv("OMP_NUM_THREADS", "4")
    with torch_threads() as count:
        assert count == 4
    four.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    with torch_threads() as count:  # set by the caller
        assert count == 1


def payload_of(pictures: Path) -> plada.Payload:
    manifest = plada.open_images(pictures).manifest
    return plada.Payload(np.arange(24), np.arange(24) % 2, ("a", "b"), 24, manifest.key_id, manifest.content_id)


SMALL, QUICK = NetworkSpec(name="test_resnet", image_size=32), {"epochs": 2, "batch_size": 8}


def test_a_run_that_goes_on_has_the_threads_that_it_began_with(
    four: pytest.MonkeyPatch, pictures: Path, tmp_path: Path
) -> None:
    """On other numbers of threads weights differ in their last digits."""
    sent, seen = payload_of(pictures), list[int]()
    stopping = plada.RunOptions(checkpoint_seconds=0)

    def look(_: object) -> None:
        if threading.current_thread() is threading.main_thread():  # a heartbeat's thread has a number of its own
            seen.append(torch.get_num_threads())

    def stop(progress: object) -> None:
        look(progress)
        if threading.current_thread() is threading.main_thread() and (tmp_path / "m.safetensors.checkpoint").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plada.train(
            sent, reference=pictures, student=SMALL, recipe=QUICK, out=tmp_path / "m.safetensors", run=stopping, report=stop
        )  # fmt: skip
    assert set(seen) == {2}
    four.setattr(threads, "free_cores", lambda: 4)
    seen.clear()
    done = plada.train(
        sent, reference=pictures, student=SMALL, recipe=QUICK, out=tmp_path / "m.safetensors",
        report=look,
    )  # fmt: skip
    assert seen[-1] == 2
    assert not done.finished_before
    assert torch.get_num_threads() == 4
    plada.train(
        sent, reference=pictures, student=SMALL, recipe=QUICK, run=plada.RunOptions(threads=3),
        report=look,
    )  # fmt: skip
    assert seen[-1] == 3


def test_a_number_that_cannot_be(pictures: Path) -> None:
    with pytest.raises(RequestError, match=r"--threads 0: expected 1 to 1024"):
        plada.train(payload_of(pictures), reference=pictures, student=SMALL, run=plada.RunOptions(threads=0))


def test_notes_of_sizes_and_starts() -> None:
    assert size_note("x", 113, 224) == ""
    assert "x sees images of 112 px, and its weights were trained at 224" in size_note("x", 112, 224)
    assert size_note("x", 64, 0) == ""
    assert "Give --pretrained, or --weights FILE" in start_note(NetworkSpec(name="resnet18"))
    assert start_note(NetworkSpec(name="resnet18", pretrained=True)) == ""
    assert start_note(NetworkSpec(name="small_cnn")) == ""


def test_what_makes_a_student_worse_is_said_before_it_is_trained(pictures: Path, tmp_path: Path) -> None:
    """Weights that want images of 160 pixels, as timm has it of this network, on images of 32."""
    from plada.common.packages import import_timm

    sent, notes = payload_of(pictures), list[str]()
    wanted = int(import_timm().get_pretrained_cfg("test_resnet").input_size[-1])
    from_nothing = plada.train(
        sent, reference=pictures, student=SMALL, recipe=QUICK, out=tmp_path / "m.safetensors",
        report=lambda progress: notes.append(progress.note),
    )  # fmt: skip
    assert [note for note in notes if note] == [*from_nothing.remarks]  # a heartbeat has none
    assert from_nothing.remarks[0].startswith("test_resnet starts from random weights")
    import safetensors.torch

    weights = tmp_path / "w.safetensors"
    safetensors.torch.save_file(build_network(SMALL, classes=1000).module.state_dict(), weights)
    trained = plada.train(sent, reference=pictures, student=replace(SMALL, weights=weights), recipe=QUICK)
    assert trained.remarks == (size_note("test_resnet", 32, wanted),)
    assert trained.remarks[0]
    sent.save(tmp_path / "s.plada")
    words = [
        "train", tmp_path / "s.plada", "--reference", pictures, "--student", "linear", "--encoder", "timm:test_resnet.r160_in1k",
        "--weights", weights, "--image-size", 32, "-o", tmp_path / "l.safetensors",
    ]  # fmt: skip
    for quiet in ([], ["--quiet"]):
        done = CliRunner().invoke(app, [*map(str, words), "--restart", *quiet])
        assert done.exit_code == 0, done.output
        assert done.stderr.count(f"sees images of 32 px, and its weights were trained at {wanted}") == 1
