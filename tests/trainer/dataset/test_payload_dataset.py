"""`payload.dataset`, `samples` and `to_hf`: the same labelled images from every form of the reference, in any process."""

import copy
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import plada
from plada.errors import DataError, MissingExtra, ReferenceMismatch
from plada.sources.decode import decode
from plada.sources.manifest import content_hash
from plada.trainer.dataset.payload_dataset import PayloadDataset
from plada.trainer.payload_images import ReferenceCopy
from tests.conftest import picture
from tests.sources.test_collections import as_tars

POSITIONS, CLASSES = np.arange(1, 24, 2), ("bright", "dim", "none of them")
LABELS = (POSITIONS // 2) % 2


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """(key, file) of the images of a folder, in the order of keys."""
    return sorted((str(path.relative_to(folder).with_suffix("")), path) for path in folder.glob("*/*"))


def as_webdataset(folder: Path, out: Path) -> Path:
    out.mkdir()
    for number, part in enumerate((files_of(folder)[:11], files_of(folder)[11:])):
        with tarfile.open(out / f"shard-{number:06d}.tar", "w") as tar:
            for key, path in part:
                tar.add(path, f"{key}{path.suffix}")
                label = tarfile.TarInfo(f"{key}.cls")
                label.size = 1
                tar.addfile(label, io.BytesIO(b"0"))
    return out


def table_of(folder: Path) -> Any:
    rows = files_of(folder)
    rows = rows[::2] + rows[1::2]  # not in the order of keys
    return pa.table(
        {"key": [key for key, _ in rows], "image": pa.array([p.read_bytes() for _, p in rows], pa.binary())}
    )


def as_parquet(folder: Path, out: Path) -> Path:
    out.mkdir()
    pq.write_table(table_of(folder), out / "part.parquet", row_group_size=5)
    return out


def as_lance(folder: Path, out: Path) -> Path:
    lance = pytest.importorskip("lance", reason="pylance is not installed")
    lance.write_dataset(table_of(folder), str(out.with_suffix(".lance")))
    return out.with_suffix(".lance")


def as_zip(folder: Path, out: Path) -> str:
    with zipfile.ZipFile(out, "w") as archive:
        for key, path in files_of(folder):
            archive.write(path, f"{key}{path.suffix}")
    return f"zip://::{out}"


def as_folder(folder: Path, _: Path) -> Path:
    return folder


FORMS: dict[str, Callable[[Path, Path], Path | str]] = {
    "folder": as_folder,
    "tars": as_tars,
    "webdataset": as_webdataset,
    "parquet": as_parquet,
    "lance": as_lance,
    "url": as_zip,
}


@pytest.fixture
def sent(pictures: Path) -> plada.Payload:
    manifest = plada.open_images(pictures).manifest
    return plada.Payload(POSITIONS, LABELS, CLASSES, 24, manifest.key_id, manifest.content_id)


def digest(image: Image.Image) -> str:
    return content_hash(image.tobytes()).hex()


@pytest.fixture
def expected(pictures: Path) -> list[tuple[str, int]]:
    """(digest of the pixels, label) of each row."""
    files = files_of(pictures)
    return [
        (digest(decode(files[at][1].read_bytes())), int(label)) for at, label in zip(POSITIONS, LABELS, strict=True)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(
    form: str, sent: plada.Payload, pictures: Path, tmp_path: Path, expected: list[tuple[str, int]]
) -> None:
    place = FORMS[form](pictures, tmp_path / form)
    found = sent.dataset(place, transform=digest)
    assert list(found) == expected
    assert found.__getitems__([3, 0, 3]) == [expected[3], expected[0], expected[3]]
    assert pickle.loads(pickle.dumps(found)).__getitems__(range(12)) == expected
    assert found.keys == [files_of(pictures)[at][0] for at in POSITIONS]
    again = [(digest(image), label) for image, label, _ in sent.samples(place)]
    assert again == expected


def test_worker_processes_started_in_any_way_give_the_same_batches(
    sent: plada.Payload, pictures: Path, tmp_path: Path, expected: list[tuple[str, int]]
) -> None:
    from torch.utils.data import ConcatDataset, DataLoader

    whole: Any = ConcatDataset(
        [sent.dataset(make(pictures, tmp_path / form), transform=digest) for form, make in FORMS.items()]
    )
    assert whole[0] == expected[0]
    assert whole[4 * 12] == expected[0]  # what is open here is not what a worker uses
    for start in ("spawn", "fork"):
        loader: Any = DataLoader(whole, batch_size=12, num_workers=2, multiprocessing_context=start, collate_fn=list)
        assert list(loader) == [expected] * len(FORMS), start


def test_it_has_what_torchvisions_data_sets_have(sent: plada.Payload, pictures: Path) -> None:
    import torch

    dataset = sent.dataset(pictures, target_transform=lambda label: -label)
    assert isinstance(dataset, torch.utils.data.Dataset)
    assert dataset.classes == list(CLASSES)
    assert dataset.class_to_idx == {"bright": 0, "dim": 1, "none of them": 2}
    assert dataset.targets == LABELS.tolist()
    image, label = dataset[-1]
    assert (image.mode, label) == ("RGB", -int(LABELS[-1]))
    assert len(repr(dataset)) < 300
    with pytest.raises(IndexError):
        dataset[12]
    subset = torch.utils.data.Subset(dataset, [4, 2])
    assert [item[1] for item in subset.__getitems__([0, 1])] == [-int(LABELS[4]), -int(LABELS[2])]


def test_a_data_set_without_torch(sent: plada.Payload, pictures: Path) -> None:
    """In a process where torch cannot be imported."""
    sent.save(pictures.parent / "sent.plada")
    code = (
        "import sys\nsys.modules['torch'] = None\nimport importlib.util, plada\n"
        "find = importlib.util.find_spec\n"
        "import plada.trainer.dataset.payload_dataset as module\n"
        "module.find_spec = lambda name: None if name == 'torch' else find(name)\n"
        f"payload = plada.read_payload({str(pictures.parent / 'sent.plada')!r})\n"
        f"dataset = payload.dataset({str(pictures)!r})\n"
        "assert type(dataset) is module.PayloadDataset\n"
        f"print(len(dataset), dataset[0][0].size, sum(1 for _ in payload.samples({str(pictures)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["12", "(40,", "30)", "12"], done.stderr


def test_a_copy_of_other_images_is_refused_at_once(sent: plada.Payload, tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / "others" / f"n{number % 3}" / f"image_{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(100 + number).save(path)
    with pytest.raises(ReferenceMismatch, match="other bytes"):
        sent.dataset(tmp_path / "others")
    (tmp_path / "others" / "n0" / "image_00.png").unlink()
    for call in (sent.dataset, sent.samples, sent.to_hf):
        with pytest.raises(ReferenceMismatch, match=r"24 images .* here are 23"):
            call(tmp_path / "others")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_changes_under_the_loader_is_named(workers: int, sent: plada.Payload, pictures: Path) -> None:
    from torch.utils.data import DataLoader

    dataset = sent.dataset(pictures, transform=digest)
    loader: Any = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=list)
    assert len([item for batch in loader for item in batch]) == 12
    key, path = files_of(pictures)[int(POSITIONS[5])]
    picture(99).save(path)
    with pytest.raises(ReferenceMismatch, match=f"{key} has changed since"):
        list(loader)
    path.unlink()
    with pytest.raises(ReferenceMismatch, match=rf"{key} cannot be read .* skip_changed=True"):
        list(loader)


def test_what_is_gone_changed_or_damaged_can_be_left_out(sent: plada.Payload, pictures: Path) -> None:
    files = files_of(pictures)
    (gone, first), (changed, second) = files[int(POSITIONS[0])], files[int(POSITIONS[4])]
    first.unlink()
    second.write_bytes(b"other bytes")
    notes: list[str] = []
    dataset = sent.dataset(ReferenceCopy(location=pictures, skip_changed=True), report=lambda p: notes.append(p.note))
    assert dataset.left_out == (gone, changed)
    assert len(dataset) == len(list(dataset)) == 10
    assert dataset.targets == np.delete(LABELS, [0, 4]).tolist()
    assert f"left out 2 images; the first is {gone}" in notes
    with pytest.raises(ReferenceMismatch, match=f"{gone} is not in this copy"):
        sent.dataset(pictures)[0]
    for at in POSITIONS:
        files[at][1].unlink(missing_ok=True)
    with pytest.raises(DataError, match="none of the payload's 12 images can be read"):
        sent.dataset(ReferenceCopy(location=pictures, skip_changed=True))


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    picture(0).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"no picture")
    manifest = plada.open_images(tmp_path / "images").manifest
    payload = plada.Payload(np.arange(2), np.arange(2), ("a", "b"), 2, manifest.key_id, manifest.content_id)
    dataset = payload.dataset(tmp_path / "images")
    assert dataset[0][1] == 0
    with pytest.raises(DataError, match=r"image b cannot be decoded .*not an image"):
        dataset[1]
    assert len(payload.dataset(ReferenceCopy(location=tmp_path / "images", skip_changed=True))) == 1


def _dies(image: Image.Image, *, mark: Path) -> str:
    """A transform that ends its process, once."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return digest(image)


def test_a_worker_that_dies_is_said_and_the_data_set_stays_whole(
    sent: plada.Payload, pictures: Path, tmp_path: Path, expected: list[tuple[str, int]]
) -> None:
    from torch.utils.data import DataLoader

    dataset = sent.dataset(pictures, transform=partial(_dies, mark=tmp_path / "died"))
    loader: Any = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=list)
    with pytest.raises(RuntimeError, match=r"worker.*(killed|exited unexpectedly)"):
        list(loader)
    assert [item for batch in loader for item in batch] == expected


def test_a_copy_of_the_data_set_is_small_and_independent(sent: plada.Payload, pictures: Path) -> None:
    """A worker is sent what the payload names, not the listing of the reference."""
    dataset = sent.dataset(pictures)
    assert len(pickle.dumps(dataset)) < 6000
    other = copy.deepcopy(dataset)
    other.transform = digest
    assert isinstance(dataset[0][0], Image.Image)
    assert isinstance(other[0][0], str)


def test_a_payload_that_was_read_finds_the_copy_that_is_known_here(
    sent: plada.Payload, pictures: Path, tmp_path: Path
) -> None:
    sent.save(tmp_path / "sent.plada")
    dataset = plada.read_payload(tmp_path / "sent.plada").dataset()
    assert isinstance(dataset, PayloadDataset)
    assert (dataset.location, dataset.targets) == (str(pictures), LABELS.tolist())


def test_hugging_face(sent: plada.Payload, pictures: Path, tmp_path: Path, expected: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    made = sent.to_hf(pictures)
    assert made.column_names == ["image", "label", "position", "key"]
    assert made.features["label"].names == list(CLASSES)
    assert made["position"][:] == POSITIONS.tolist()
    assert [(digest(row["image"].convert("RGB")), row["label"]) for row in made] == expected


def test_without_datasets_the_extra_is_named(
    sent: plada.Payload, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"payload.to_hf needs datasets.*\[hf\]"):
        sent.to_hf(pictures)


def test_a_payload_and_its_copy_share_nothing_that_changes(sent: plada.Payload, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "copy")
    assert [label for _, label in sent.dataset(tmp_path / "copy")] == LABELS.tolist()
