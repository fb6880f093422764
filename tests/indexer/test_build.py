"""The index: rows in order, unreadable images in their place, any stop survived, nothing mistaken for something else."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.progress import Clock, Progress
from plada.encoders.encoder import Encoder, load_encoder
from plada.errors import DataError, Interrupted, ReferenceMismatch, RequestError, ResourceError
from plada.indexer.build import build_index
from plada.indexer.embed import EmbeddedRows
from plada.indexer.job import Job
from plada.indexer.store import Store, shard_rows
from plada.retrieval.index import Index
from plada.sources.decode import decode
from plada.sources.leaks.fingerprints import FINGERPRINT_BYTES
from plada.sources.registry import open_source
from tests.conftest import picture, table_folder
from tests.sources.test_decode import damaged_tiff


def all_of(index: Index) -> tuple[np.ndarray, np.ndarray]:
    positions, vectors = zip(*index.scan(), strict=True)
    return np.concatenate(positions), np.concatenate(vectors)


def job(place: Path, home: Path, name: str) -> Job:
    return Job(collection=open_source(place, home), name=name, reference_name="p", home=home)


def test_an_index_holds_what_the_encoder_gives(pictures: Path) -> None:
    summary = plada.index(pictures, name="p", encoder="gradients", batch_size=5)
    assert (summary.images, summary.unreadable, summary.reused) == (24, 0, 0)
    assert set(summary.seconds) == {"list", "load", "embed", "commit"}
    positions, vectors = all_of(plada.open_index("p"))
    assert positions.tolist() == list(range(24))
    encoder, files = load_encoder("gradients"), plada.open_images(pictures)
    wanted = encoder.encode(np.stack([encoder.view.of(decode(files.read(p))) for p in range(24)]))
    assert np.array_equal(vectors, wanted.astype(np.float16))


def test_batches_workers_and_scans_do_not_change_the_rows(pictures: Path, tmp_path: Path) -> None:
    made = []
    for batch_size, workers in ((1, 0), (7, 2), (64, 1)):
        plada.index(
            pictures,
            name="p",
            encoder="gradients",
            batch_size=batch_size,
            workers=workers,
            home=tmp_path / f"{batch_size}",
        )
        made.append(all_of(plada.open_index("p", home=tmp_path / f"{batch_size}"))[1])
    assert all(np.array_equal(made[0], other) for other in made[1:])


def test_unreadable_images_keep_their_place(pictures: Path) -> None:
    broken = {"n0/image_03": b"not an image", "n1/image_13": (pictures / "n1" / "image_13.jpg").read_bytes()[:300]}
    for key, data in broken.items():
        next(pictures.glob(f"{key}.*")).write_bytes(data)
    summary = plada.index(pictures, name="p", encoder="gradients")
    assert (summary.images, summary.unreadable) == (24, 2)
    assert [example.partition(":")[0] for example in summary.examples] == sorted(broken)
    assert [(group.images, group.example) for group in summary.reasons] == [(1, key) for key in sorted(broken)]
    assert plada.index(pictures, name="p", encoder="gradients").reasons == summary.reasons  # of a finished index too
    assert plada.verify(pictures).unreadable == summary.reasons
    index = plada.open_index("p")
    missing = [p for p, key in enumerate(index.keys(range(24))) if key in broken]
    assert all_of(index)[0].tolist() == [p for p in range(24) if p not in missing]
    with pytest.raises(
        DataError, match=rf"image {missing[0]} \(n0/image_03\) has no embedding; .*: not an image of a known"
    ):
        index.vectors(missing)
    assert len(index.search("position:0", k=24)[0]) == 22


def test_what_is_damaged_in_part_is_said_once_with_a_count_and_an_example(pictures: Path) -> None:
    for number in range(3):
        (pictures / "n0" / f"part_{number}.tif").write_bytes(damaged_tiff("group4"))
    summary = plada.index(pictures, name="p", encoder="gradients")
    assert summary.unreadable == 0
    (note,) = summary.notes
    assert note.startswith("3 images read, though parts of the TIFF are damaged") and note.endswith("n0/part_0")


def test_nothing_readable_is_an_error_and_no_index(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for number in range(3):
        (tmp_path / "bad" / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no readable image among 3; the first, 0, is not an image"):
        plada.index(tmp_path / "bad", name="bad", encoder="gradients")
    with pytest.raises(plada.PladaError, match="unknown index 'bad'"):
        plada.open_index("bad")


def test_a_second_run_reuses_everything(pictures: Path) -> None:
    first = plada.index(pictures, name="p", encoder="gradients")
    again = plada.index(pictures, name="p", encoder="gradients")
    assert again.reused == 24
    assert replace(again, reused=0, seconds=first.seconds) == first


def test_another_reference_or_encoder_under_the_same_name_is_refused(pictures: Path, tmp_path: Path) -> None:
    import safetensors.torch

    from plada.common.packages import import_timm

    plada.index(pictures, name="p", encoder="gradients")
    module = import_timm().create_model("test_resnet")
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    other = plada.EncoderSpec(name="timm:test_resnet", weights=tmp_path / "w.safetensors", image_size=32)
    with pytest.raises(ReferenceMismatch, match=r"made with encoder gradients .* asked for is timm:test_resnet"):
        plada.index(pictures, name="p", encoder=other)
    picture(77).save(pictures / "n0" / "new.png")
    with pytest.raises(ReferenceMismatch, match=r"of 24 images with key id .* has 25 with"):
        plada.index(pictures, name="p", encoder="gradients")
    assert plada.index(pictures, name="p", encoder="gradients", restart=True).images == 25


def test_the_encoder_must_be_named_for_photographs(pictures: Path) -> None:
    for nameless in (None, plada.EncoderSpec(name="", weights="w.safetensors")):
        with pytest.raises(RequestError, match="photographs need a trained encoder"):
            plada.index(pictures, encoder=nameless)
    with pytest.raises(RequestError, match="gradients has no weights and no options"):
        plada.index("glyphs:count=64", encoder=plada.EncoderSpec(name="", weights="w.safetensors"))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a\\b", "a\0b"])
def test_an_index_has_a_plain_name(pictures: Path, name: str) -> None:
    with pytest.raises(RequestError, match="plain name"):
        build_index(job(pictures, pictures, name), load_encoder("gradients"), clock=Clock())


def stopping(after: int, error: type[BaseException]) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.stage == "embed" and progress.done >= after:
            raise error

    return report


def test_a_stopped_build_goes_on_and_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    unbroken, stopped = tmp_path / "a", tmp_path / "b"
    plada.index("glyphs:count=4096", name="g", home=unbroken)
    seen = 0
    for _ in range(10):
        try:
            seen = plada.index(
                "glyphs:count=4096", name="g", home=stopped, report=stopping(1500, KeyboardInterrupt)
            ).reused
            break
        except Interrupted as stop:
            assert "plada index glyphs:count=4096 --name g --encoder gradients" in stop.resume
            with pytest.raises(plada.PladaError, match="It is not finished: run the same `plada index` again"):
                plada.open_index("g", home=stopped)
    assert seen >= 1024
    one, other = plada.open_index("g", home=unbroken), plada.open_index("g", home=stopped)
    assert all(np.array_equal(x, y) for x, y in zip(all_of(one), all_of(other), strict=True))
    assert one.info["content_id"] == other.info["content_id"]
    assert not (other.folder / "building.json").exists()


def test_a_crash_keeps_whole_shards(tmp_path: Path) -> None:
    done: list[int] = []

    def report(progress: Progress) -> None:
        if progress.stage == "embed":
            done.append(progress.done)  # how often it is told depends on the machine's speed
            stopping(1500, ZeroDivisionError)(progress)

    with pytest.raises(ZeroDivisionError):
        plada.index("glyphs:count=4096", name="g", home=tmp_path, report=report)
    store, shard = Store(tmp_path / "indexes" / "g"), shard_rows(4096)
    assert store.info() is None
    kept = Store(store.folder, str((store.unfinished() or {})["table"])).rows()
    assert kept == (done[-1] - 1) // shard * shard >= 1024
    assert plada.index("glyphs:count=4096", name="g", home=tmp_path).reused == kept


def test_a_kill_in_the_first_commit_is_survived(pictures: Path, home: Path) -> None:
    """What Lance leaves then: data, and no version that names it."""
    plada.index(pictures, name="p", encoder="gradients")
    folder = plada.open_index("p").folder
    for path in (table_folder(folder) / "_versions").iterdir():
        path.unlink()
    (folder / "index.json").unlink()
    assert plada.index(pictures, name="p", encoder="gradients").reused == 0
    assert len(plada.open_index("p").search("position:3", k=3)[0]) == 3


def test_a_build_for_other_images_starts_anew_when_asked(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        plada.index("glyphs:count=4096", name="g", home=tmp_path, report=stopping(1500, KeyboardInterrupt))
    with pytest.raises(ReferenceMismatch, match="images is 4096, now 3000"):
        plada.index("glyphs:count=3000", name="g", home=tmp_path)
    assert plada.index("glyphs:count=3000", name="g", home=tmp_path, restart=True).reused == 0


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_can_be_repeated(tmp_path: Path, kill: signal.Signals) -> None:
    command = [sys.executable, "-m", "plada", "index", "glyphs:count=6000", "--name", "g", "--home", str(tmp_path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "indexes" / "g"
    deadline = time.monotonic() + 60
    while not any(folder.glob("images*.lance/_versions/*.manifest")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(kill)
    _, said = running.communicate(timeout=60)
    if kill == signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert running.returncode == 6, said
        last = said.strip().splitlines()[-1]
        assert last.startswith("plada: index 'g': stopped with ")
        assert "Resume with: plada index glyphs:count=6000 --name g" in last
        assert "Traceback" not in said
    summary = plada.index("glyphs:count=6000", name="g", home=tmp_path)
    assert summary.reused >= shard_rows(6000)
    assert all_of(plada.open_index("g", home=tmp_path))[0].tolist() == list(range(6000))


def test_two_indexers_on_one_store(pictures: Path, home: Path) -> None:
    with (
        Store(home / "indexes" / "p").lock(),
        pytest.raises(ResourceError, match="another process is writing this index"),
    ):
        plada.index(pictures, name="p", encoder="gradients")


def test_a_newer_or_damaged_index_is_said(pictures: Path) -> None:
    plada.index(pictures, name="p", encoder="gradients")
    path = plada.open_index("p").folder / "index.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "format": 99}))
    with pytest.raises(DataError, match="index of format 99; this plada reads 3"):
        plada.open_index("p")
    path.write_text('{"format": 1')
    with pytest.raises(DataError, match=r"index\.json: cannot be read"):
        plada.open_index("p")
    path.write_text("[]")
    with pytest.raises(DataError, match="not a plada index"):
        plada.open_index("p")


def test_rows_of_another_collection_are_noticed_before_publishing(pictures: Path, home: Path) -> None:
    import pyarrow as pa

    store = Store(home / "indexes" / "x")
    store.begin({}, restart=False)
    zeros = np.zeros((2, 16), np.uint8)
    vectors = np.full((2, 4), 0.5, np.float16)
    sizes, sides = np.ones(2, np.int64), np.ones(2, np.int32)
    store.append(
        EmbeddedRows(0, vectors, zeros, sizes, sides, sides, np.zeros((2, FINGERPRINT_BYTES), np.uint8), ["", ""]),
        pa.array(["a", "b"]),
    )
    info: dict[str, Any] = {"dimension": 4}
    manifest = home / "m.parquet"
    with pytest.raises(DataError, match="the rows from 0 on are not those"):
        store.finish(pa.array(["a", "c"]), info, manifest)
    with pytest.raises(DataError, match="2 of 3 rows are there"):
        store.finish(pa.array(["a", "b", "c"]), info, manifest)
    with pytest.raises(DataError, match="are not those"):
        store.finish(pa.array(["a"]), info, manifest)
    assert store.info() is None
    assert not manifest.exists()


def test_an_encoder_that_gives_nonsense_is_stopped(pictures: Path, home: Path) -> None:
    good = load_encoder("gradients")
    bad = Encoder(good.config, good.view, lambda pixels: np.full((len(pixels), 256), np.nan, np.float32))
    with pytest.raises(DataError, match="not finite"):
        build_index(job(pictures, home, "p"), bad, clock=Clock())
