"""An index in parts, on a cluster, or of a reference that grew: always the rows that one unbroken build makes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.progress import Progress
from plada.errors import DataError, Interrupted, ReferenceMismatch, RequestError, UnknownName
from plada.indexer.parts import PartNumber, part_spans
from plada.retrieval.index import Index
from tests.conftest import edit_json, picture, table_folder

GLYPHS = "glyphs:count=4500"  # five shards, the last one short


def stored(home: Path, name: str = "g") -> tuple[Any, Any]:
    """Everything that is stored of the images, and the ledger."""
    index = plada.open_index(name, home=home)
    return index.table().to_lance().to_table().combine_chunks(), index.info["shards"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("whole")
    plada.index(GLYPHS, name="g", home=home)
    return home


def test_parts_merge_into_the_same_index(whole: Path, tmp_path: Path) -> None:
    for number in (3, 1, 2):
        made = plada.index(GLYPHS, name="g", shard=f"{number}/3", home=tmp_path)
        assert made.shard == f"{number}/3"
        with pytest.raises(plada.PladaError, match="unknown index 'g'"):
            plada.open_index("g", home=tmp_path)
    again = plada.index(GLYPHS, name="g", shard="2/3", home=tmp_path)
    assert again.reused == again.images == 2048
    merged = plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    assert (merged.images, merged.unreadable) == (4500, 0)
    assert stored(tmp_path) == stored(whole)
    assert plada.open_index("g", home=tmp_path).search("position:7", k=1)[0][0].position == 7
    assert plada.index(GLYPHS, name="g", merge=True, home=tmp_path).reused == 4500
    assert plada.index(GLYPHS, name="g", home=tmp_path).reused == 4500


def test_more_parts_than_shards(whole: Path, tmp_path: Path) -> None:
    sizes = [plada.index(GLYPHS, name="g", shard=f"{number}/7", home=tmp_path).images for number in range(1, 8)]
    assert sum(sizes) == 4500
    assert 0 in sizes
    plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    assert stored(tmp_path) == stored(whole)


def test_parts_cover_a_reference_once() -> None:
    for images, rows, of in ((4500, 1024, 3), (100, 1024, 4), (14_197_122, 65_536, 64)):
        spans = [span for number in range(1, of + 1) for span in part_spans(images, rows, PartNumber(number, of))]
        assert spans[0][0] == 0
        assert [stop for _, stop in spans] == [start for start, _ in spans[1:]] + [images]


def stopping(after: int, stage: str = "embed") -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.stage == stage and progress.done >= after:
            raise KeyboardInterrupt

    return report


def test_a_part_and_a_merge_that_were_stopped_go_on(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"Resume with: plada index .*--batch-size 32 --shard 1/2"):
        plada.index(GLYPHS, name="g", shard="1/2", home=tmp_path, report=stopping(1100))
    with pytest.raises(DataError, match=r"1-of-2: is not finished. Run `plada index ... --shard 1/2`"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    assert plada.index(GLYPHS, name="g", shard="1/2", home=tmp_path).reused == 1024
    with pytest.raises(DataError, match=r"2-of-2: is missing"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    plada.index(GLYPHS, name="g", shard="2/2", home=tmp_path)
    with pytest.raises(Interrupted, match=r"stopped with 1024 of 4500 images merged.*--merge"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path, report=stopping(1, "merge"))
    assert plada.index(GLYPHS, name="g", merge=True, home=tmp_path).reused == 1024
    assert stored(tmp_path) == stored(whole)


def test_parts_that_do_not_fit_are_not_merged(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no parts to merge"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    plada.index(GLYPHS, name="g", shard="1/2", home=tmp_path)
    plada.index(GLYPHS, name="g", shard="2/2", home=tmp_path, batch_size=16)
    with pytest.raises(ReferenceMismatch, match="2-of-2: batch_size is 16, that of part 1/2 is 32"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    with pytest.raises(ReferenceMismatch, match="images is 4500, now 4400"):
        plada.index("glyphs:count=4400", name="g", shard="2/2", home=tmp_path)
    plada.index("glyphs:count=4400", name="g", shard="2/2", home=tmp_path, restart=True)
    with pytest.raises(ReferenceMismatch, match="2-of-2: images is"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    plada.index("glyphs:count=4400", name="g", shard="1/2", home=tmp_path, restart=True)
    with pytest.raises(ReferenceMismatch, match="the parts are of images with key id"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path)
    plada.index("glyphs:count=4400", name="g", shard="1/3", home=tmp_path)
    with pytest.raises(DataError, match="parts of 2 and parts of 3"):
        plada.index("glyphs:count=4400", name="g", merge=True, home=tmp_path)


def test_a_damaged_part_is_not_merged(tmp_path: Path) -> None:
    for number in (1, 2):
        plada.index(GLYPHS, name="g", shard=f"{number}/2", home=tmp_path)
    path = tmp_path / "indexes" / "g" / "parts" / "2-of-2" / "part.json"
    said = json.loads(path.read_text())
    edit_json(path, digests=[*said["digests"][:-1], "00" * 16])
    with pytest.raises(DataError, match="2-of-2: images 4096 to 4499 are damaged or missing"):
        plada.index(GLYPHS, name="g", merge=True, home=tmp_path)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_is_written_i_of_n(pictures: Path, shard: str) -> None:
    with pytest.raises(RequestError, match="expected I/N with 1 <= I <= N"):
        plada.index(pictures, encoder="gradients", shard=shard)


def test_options_that_exclude_each_other(pictures: Path) -> None:
    for options in (
        {"shard": "1/2", "merge": True},
        {"append": True, "merge": True},
    ):
        with pytest.raises(RequestError, match="Give one of them"):
            plada.index(pictures, encoder="gradients", **options)
    with pytest.raises(UnknownName, match="unknown engine 'spark'"):
        plada.index(pictures, encoder="gradients", engine="spark")


# A reference that grew


def same_rows(one: Index, other: Index) -> None:
    a, b = (index.table().to_lance().to_table().combine_chunks() for index in (one, other))
    assert a == b
    for name in ("shards", "key_id", "content_id", "unreadable", "mean", "images"):
        assert one.info[name] == other.info[name], name


def grow(pictures: Path) -> None:
    """New images before, between and behind the old ones; one gone, one changed, one unreadable."""
    for number, folder in enumerate(("a0", "n0", "n1", "z9")):
        (pictures / folder).mkdir(exist_ok=True)
        picture(100 + number).save(pictures / folder / f"new_{number}.png")
    (pictures / "n2" / "image_05.jpg").unlink()
    picture(200).save(pictures / "n2" / "image_08.png")
    (pictures / "n1" / "bad.png").write_bytes(b"nothing")


def test_a_reference_that_grew_embeds_only_what_is_new(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "n0" / "torn.png").write_bytes(b"nothing")
    plada.index(pictures, name="p", encoder="gradients")
    grow(pictures)
    encoded: list[int] = []
    from plada.encoders import gradients

    real = gradients.embed

    def counted(pixels: Any) -> Any:
        encoded.append(len(pixels))
        return real(pixels)

    monkeypatch.setattr(gradients, "embed", counted)
    made = plada.index(pictures, name="p", encoder="gradients", append=True)
    monkeypatch.undo()
    assert (made.images, made.unreadable, made.reused) == (29, 2, 22)
    assert sum(encoded) - 1 == 5  # the self-check takes one
    monkeypatch.setenv("PLADA_HOME", str(tmp_path / "home"))
    plada.index(pictures, name="p", encoder="gradients", home=tmp_path / "fresh")
    same_rows(plada.open_index("p"), plada.open_index("p", home=tmp_path / "fresh"))
    assert len(tables(Path(made.path))) == 1
    assert plada.index(pictures, name="p", encoder="gradients", append=True).reused == 29


def test_growing_by_shards_can_be_stopped(tmp_path: Path, whole: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    with pytest.raises(Interrupted, match=r"Resume with: plada index .* --append"):
        plada.index("glyphs:count=6000", name="g", home=home, append=True, report=stopping(3000))
    assert len(plada.open_index("g", home=home)) == 4500, "the old index serves until the new one is whole"
    made = plada.index("glyphs:count=6000", name="g", home=home, append=True)
    assert made.reused >= 4500
    plada.index("glyphs:count=6000", name="g", home=tmp_path / "fresh")
    same_rows(plada.open_index("g", home=home), plada.open_index("g", home=tmp_path / "fresh"))


@pytest.mark.parametrize("done", [False, True])
def test_a_kill_while_the_new_index_takes_its_place(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    plada.index(pictures, name="p", encoder="gradients")
    grow(pictures)
    real = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.name != "index.json":
            return real(path, target)
        if done:
            real(path, target)
        raise SystemError("killed")

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(SystemError):
        plada.index(pictures, name="p", encoder="gradients", append=True)
    monkeypatch.undo()
    monkeypatch.setenv("PLADA_HOME", str(tmp_path / "home"))
    assert len(plada.open_index("p")) == (29 - 1 if done else 24)
    plada.index(pictures, name="p", encoder="gradients", append=True)
    plada.index(pictures, name="p", encoder="gradients", home=tmp_path / "fresh")
    same_rows(plada.open_index("p"), plada.open_index("p", home=tmp_path / "fresh"))
    assert len(tables(tmp_path / "home" / "indexes" / "p")) == 1


def tables(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.lance"))


@pytest.mark.parametrize("how", ["append", "restart"])
def test_an_opened_index_stays_that_index(pictures: Path, home: Path, how: str) -> None:
    plada.index(pictures, name="p", encoder="gradients")
    opened, lazy = plada.open_index("p"), plada.open_index("p")
    keys, vectors = opened.keys(range(24)), opened.vectors(range(24))
    grow(pictures)
    plada.index(pictures, name="p", encoder="gradients", append=how == "append", restart=how == "restart")
    for index in (opened, lazy):
        assert index.keys(range(24)) == keys
        assert np.array_equal(index.vectors(range(24)), vectors)
        assert np.array_equal(np.concatenate([block for _, block in index.scan()]), vectors)
    assert len(plada.open_index("p")) == 28
    assert len(tables(home / "indexes" / "p")) == 2
    with pytest.raises(ReferenceMismatch, match="content id"):
        opened.reference()
    del opened, lazy, index
    plada.index(pictures, name="p", encoder="gradients")
    assert len(tables(home / "indexes" / "p")) == 1, "old builds go when nobody holds them"


def test_a_build_that_is_removed_under_a_reader_is_said(pictures: Path, home: Path) -> None:
    """Where there are no locks: an error, never other rows."""
    plada.index(pictures, name="p", encoder="gradients")
    opened = plada.open_index("p")
    held = opened.info["table"]
    grow(pictures)
    plada.index(pictures, name="p", encoder="gradients", append=True)
    shutil.rmtree(home / "indexes" / "p" / f"{held}.lance")
    with pytest.raises(ReferenceMismatch, match="made anew while it was read"):
        opened.vectors([3])


def change(path: Path) -> None:
    """Other pixels in as many bytes: a BMP has no compression."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


@pytest.fixture
def bitmaps(tmp_path: Path) -> Path:
    root = tmp_path / "bitmaps"
    root.mkdir()
    for number in range(2100):
        picture(number, (9, 7)).save(root / f"{number:04d}.bmp")
    return root


def test_changed_bytes_under_the_same_keys_are_embedded_again(bitmaps: Path, tmp_path: Path) -> None:
    plada.index(bitmaps, name="p", encoder="gradients")
    change(bitmaps / "1234.bmp")
    with pytest.raises(ReferenceMismatch, match=r"1 in .*bitmaps have other bytes now, the first is 1234.*--append"):
        plada.index(bitmaps, name="p", encoder="gradients")
    made = plada.index(bitmaps, name="p", encoder="gradients", append=True)
    assert made.reused == 2099
    plada.index(bitmaps, name="p", encoder="gradients", home=tmp_path / "fresh")
    same_rows(plada.open_index("p"), plada.open_index("p", home=tmp_path / "fresh"))
    assert plada.index(bitmaps, name="p", encoder="gradients", append=True).reused == 2100


def test_a_kept_listing_does_not_hide_a_change_of_size(
    pictures: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plada.sources.formats import listing

    monkeypatch.setattr(listing, "SPILL", 4)
    monkeypatch.setattr("plada.sources.formats.folder.settled", lambda stamps, start: stamps)
    plada.index(pictures, name="p", encoder="gradients")
    assert list(home.glob("listings/*/listing.json"))
    picture(200, (60, 60)).save(pictures / "n2" / "image_08.png")
    with pytest.raises(ReferenceMismatch, match=r"other bytes now, the first is n2/image_08"):
        plada.index(pictures, name="p", encoder="gradients")
    assert plada.index(pictures, name="p", encoder="gradients", append=True).reused == 23
    assert plada.index(pictures, name="p", encoder="gradients").reused == 24


def test_resuming_notices_changed_images(bitmaps: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        plada.index(bitmaps, name="p", encoder="gradients", report=stopping(2090))
    change(bitmaps / "1234.bmp")
    made = plada.index(bitmaps, name="p", encoder="gradients")
    assert made.reused == 1024
    assert "1 images changed since they were embedded, the first is 1234" in made.notes[0]
    plada.index(bitmaps, name="p", encoder="gradients", home=tmp_path / "fresh")
    same_rows(plada.open_index("p"), plada.open_index("p", home=tmp_path / "fresh"))


@pytest.mark.parametrize("shard", [None, "1/1"])
def test_resuming_lists_anew(bitmaps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str | None) -> None:
    """A kept listing has the sizes of its time: a change of size among images beyond the sample would not show."""
    from plada.indexer import changes
    from plada.sources.formats import listing

    monkeypatch.setattr(listing, "SPILL", 4)
    monkeypatch.setattr("plada.sources.formats.folder.settled", lambda stamps, start: stamps)
    monkeypatch.setattr(changes, "sample_positions", lambda count, sample, seed: np.arange(1))
    with pytest.raises(Interrupted):
        plada.index(bitmaps, name="p", encoder="gradients", report=stopping(2090), shard=shard)
    picture(5000, (11, 7)).save(bitmaps / "0234.bmp")
    made = plada.index(bitmaps, name="p", encoder="gradients", shard=shard)
    assert made.reused == 0
    assert "1 images changed since they were embedded, the first is 0234" in made.notes[0]


def test_parts_notice_changed_images(bitmaps: Path) -> None:
    for number in (1, 2):
        plada.index(bitmaps, name="p", encoder="gradients", shard=f"{number}/2")
    change(bitmaps / "1234.bmp")
    with pytest.raises(ReferenceMismatch, match=r"2-of-2: 1 of its images changed .* 1234.*--shard 2/2"):
        plada.index(bitmaps, name="p", merge=True)
    assert plada.index(bitmaps, name="p", encoder="gradients", shard="2/2").reused == 0
    assert plada.index(bitmaps, name="p", merge=True).images == 2100


def test_an_unfinished_index_of_another_plan_is_kept(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        plada.index(GLYPHS, name="g", home=tmp_path, report=stopping(2100))
    with pytest.raises(ReferenceMismatch, match=r"2048 rows of another plan: images is 4500, now 4501.*--restart"):
        plada.index("glyphs:count=4501", name="g", home=tmp_path)
    assert plada.index(GLYPHS, name="g", home=tmp_path).reused == 2048


def test_an_unfinished_index_in_another_precision_is_kept(tmp_path: Path, pictures: Path) -> None:
    from plada.encoders.encoder import load_encoder
    from plada.indexer.job import Job
    from plada.indexer.store import Store
    from plada.sources.registry import open_source

    config = load_encoder("gradients").config
    job = Job(collection=open_source(GLYPHS, tmp_path), name="g", reference_name="g", home=tmp_path)
    with pytest.raises(Interrupted):
        plada.index(GLYPHS, name="g", home=tmp_path, report=stopping(2100))
    store = job.store()
    unfinished = Store(store.folder, str((store.unfinished() or {})["table"]))
    with pytest.raises(ReferenceMismatch, match=r"encoder.precision is fp32, now fp16"):
        unfinished.begin(job.plan(replace(config, precision="fp16")))
    assert plada.index("glyphs:count=4501", name="g", home=tmp_path, restart=True).reused == 0


def test_an_unfinished_append_is_given_up_and_the_finished_index_stays(bitmaps: Path, home: Path) -> None:
    plada.index(bitmaps, name="p", encoder="gradients")
    finished = plada.open_index("p").info
    picture(3000, (9, 7)).save(bitmaps / "0000a.bmp")
    with pytest.raises(Interrupted):
        plada.index(bitmaps, name="p", encoder="gradients", append=True, report=stopping(2090))
    (bitmaps / "0000a.bmp").unlink()
    picture(3001, (9, 7)).save(bitmaps / "0000b.bmp")
    with pytest.raises(ReferenceMismatch, match="--append --restart, which keeps the finished index"):
        plada.index(bitmaps, name="p", encoder="gradients", append=True)
    with pytest.raises(Interrupted):
        plada.index(bitmaps, name="p", encoder="gradients", append=True, restart=True, report=stopping(500))
    assert plada.open_index("p").info == finished
    assert plada.index(bitmaps, name="p", encoder="gradients", append=True).images == 2101
    assert len(list((home / "indexes" / "p").glob("images*.lance"))) == 1


def test_an_old_format_cannot_grow(pictures: Path, home: Path) -> None:
    import lance

    plada.index(pictures, name="p", encoder="gradients")
    folder = home / "indexes" / "p"
    table = lance.dataset(table_folder(folder)).to_table().drop_columns(["look"])
    shutil.rmtree(table_folder(folder))
    lance.write_dataset(table, folder / "images.lance")
    info = json.loads((folder / "index.json").read_text())
    info = {
        name: value for name, value in info.items() if name not in ("table", "digest")
    }  # as an older plada wrote it
    (folder / "index.json").write_text(json.dumps({**info, "format": 1, "version": 1}))
    picture(9).save(pictures / "n0" / "new.png")
    with pytest.raises(RequestError, match="of format 1, whose rows cannot be taken over"):
        plada.index(pictures, name="p", encoder="gradients", append=True)


def test_a_second_encoder_leaves_the_first_alone(pictures: Path, home: Path, tmp_path: Path) -> None:
    import safetensors.torch

    from plada.common.packages import import_timm

    plada.index(pictures, name="p", encoder="gradients")

    def files() -> dict[Path, tuple[int, int]]:
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in (home / "indexes" / "p").rglob("*")
            if path.is_file() and path.name != ".lock"
        }

    before = files()
    module = import_timm().create_model("test_resnet")
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    made = plada.index(
        pictures,
        name="second",
        encoder=plada.EncoderSpec(name="timm:test_resnet", weights=tmp_path / "w.safetensors", image_size=32),
    )
    first, second = plada.open_index("p"), plada.open_index("second")
    assert made.content_id == first.info["content_id"]
    assert files() == before
    assert first.dimension != second.dimension
    assert first.search("position:3", k=1)[0][0].position == second.search("position:3", k=1)[0][0].position == 3


def test_vectors_of_zero_are_no_rows(pictures: Path) -> None:
    made = plada.index(pictures, name="p", encoder="gradients")
    vectors = plada.open_index("p").vectors(range(made.images))
    assert np.allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-3)


_SMALL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
sys.argv = ["plada", "index", "glyphs:count=4500", "--name", "g", "--workers", "0"]
import plada.cli
plada.cli.main()
"""


@pytest.mark.skipif(os.name != "posix", reason="limits as on POSIX")
def test_a_full_disk_ends_in_one_line_and_can_be_gone_on_from(home: Path, whole: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _SMALL], capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("plada: ")
    assert "the disk is full" in last
    assert "Traceback" not in done.stderr
    assert plada.index(GLYPHS, name="g").images == 4500
    assert stored(home) == stored(whole)


def test_a_table_that_cannot_be_opened_is_one_line(pictures: Path, home: Path) -> None:
    """Lance panics on some versions of a damaged table, which is no Exception in Python."""
    plada.index(pictures, name="p", encoder="gradients")
    (version,) = (table_folder(home / "indexes" / "p") / "_versions").glob("*.manifest")
    whole = version.read_bytes()
    at = whole.rindex(b"halffloat")
    version.write_bytes(whole[:at] + b"halffloAt" + whole[at + 9 :])
    with pytest.raises(DataError, match="cannot be opened or read"):
        list(plada.open_index("p").scan())
    picture(99).save(pictures / "n0" / "new.png")
    with pytest.raises(DataError, match="cannot be read"):
        plada.index(pictures, name="p", encoder="gradients", append=True)
    assert not plada.check_index("p").ok
