"""One rule for names, whatever they come from, and names that differ only in their Unicode form."""

import contextlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plada.common.files import home_directory
from plada.errors import DataError, RequestError
from plada.sources.formats.detect import open_collection
from plada.sources.registry import open_source
from plada.sources.targets.target import open_folder_target
from tests.conftest import picture


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number, (9, 7)).save(buffer, "PNG")
    return buffer.getvalue()


DATA = [png(0), png(1), png(2)]
HOSTILE = [
    ("a\0b", "null character"),
    ("../a", "leads out"),
    ("x/../../a", "leads out"),
    ("/etc/a", "leads out"),
    ("x\\..\\a", "leads out"),
    ("x/" + "é" * 200, "too long"),
    ("/".join(["x" * 250] * 20), "too long"),
]


def table(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("name", "fault"), [*HOSTILE, (".hidden/a", "is hidden"), ("x/.a", "is hidden")])
def test_a_table_with_a_name_that_may_not_be_is_refused_with_its_row(name: str, fault: str, tmp_path: Path) -> None:
    place = table(tmp_path / "x.parquet", {"key": ["fine", name, "too"], "image": DATA})
    with pytest.raises(DataError, match=rf"name in row 1, .*{fault}"):
        open_collection(place)


@pytest.mark.parametrize(("name", "fault"), HOSTILE[1:])
def test_a_tar_with_a_name_that_may_not_be_is_refused(name: str, fault: str, tmp_path: Path) -> None:
    place = shard(tmp_path / "x.tar", {"fine.png": DATA[0], f"{name}.png": DATA[1]})
    with pytest.raises(DataError, match=rf"member 1, .*{fault}"):
        open_collection(place)


def test_hidden_members_are_passed_over_and_long_paths_of_short_parts_are_fine(tmp_path: Path) -> None:
    long = "/".join(["é" * 60] * 5)
    place = shard(tmp_path / "n01440764.tar", {"./a.png": DATA[0], ".b.png": DATA[1], f"{long}.png": DATA[2]})
    assert open_collection(place).keys.to_pylist() == ["n01440764/a", f"n01440764/{long}"]
    place = table(tmp_path / "x.parquet", {"key": ["./a.png", long], "image": DATA[:2]})
    assert open_collection(place).keys.to_pylist() == ["a", long]


@pytest.mark.parametrize(
    ("keys", "images"),
    [
        (pa.string(), pa.binary()),
        (pa.large_string(), pa.large_binary()),
        (pa.dictionary(pa.int32(), pa.string()), pa.binary()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.dictionary(pa.int32(), pa.binary())),
        (pa.string_view(), pa.binary_view()),
    ],
)
def test_columns_of_every_encoding_are_read(keys: Any, images: Any, tmp_path: Path) -> None:
    columns = {"key": pa.array(["a.png", "b", "c"]).cast(keys), "image": pa.array(DATA, pa.binary()).cast(images)}
    collection = open_collection(table(tmp_path / "x.parquet", columns))
    assert collection.keys.to_pylist() == ["a", "b", "c"]
    assert [data for _, data in collection.stream(0, 3)] == DATA


def test_of_two_columns_of_images_one_must_be_named(tmp_path: Path) -> None:
    def struct(order: list[int]) -> Any:
        return pa.array([{"bytes": DATA[row], "path": f"{row}.png"} for row in order])

    place = table(tmp_path / "x.parquet", {"left": struct([0, 1]), "right": struct([2, 1]), "raw": DATA[:2]})
    with pytest.raises(DataError, match=r"several columns of images: left, right. .* --column left"):
        open_collection(place)
    home = home_directory(tmp_path / "home")
    right = open_source(f"column=right:{place}", home)
    assert (right.keys.to_pylist(), right.read(1)) == (["1", "2"], DATA[2])
    assert open_source(right.location, home).read(1) == DATA[2]
    with pytest.raises(DataError, match="column middle does not hold images; the columns are left, right, raw"):
        open_collection(f"column=middle:{place}")
    with pytest.raises(RequestError, match="--column left: for parquet and Lance"):
        open_collection(f"column=left:{shard(tmp_path / 'y.tar', {'a.png': DATA[0]})}")


def test_which_member_of_a_sample_is_the_image_can_be_said(tmp_path: Path) -> None:
    members = {f"{n}.{end}": DATA[k] for n in ("0", "1") for k, end in enumerate(("png", "seg.png", "JPG"))}
    place = shard(tmp_path / "part-0.tar", members)
    with pytest.raises(DataError, match=r"ends at the first dot of the file name; .* --image-extension jpg"):
        open_collection(place)
    for end, data in (("png", DATA[0]), ("seg.png", DATA[1]), ("jpg", DATA[2])):
        chosen = open_collection(f"image-extension={end}:{place}")
        assert chosen.keys.to_pylist() == ["0", "1"]
        assert [chosen.read(1), open_collection(chosen.location).read(0)] == [data, data]
    with pytest.raises(RequestError, match="--image-extension jpg: for WebDataset"):
        open_collection(f"image-extension=jpg:{table(tmp_path / 'p' / 'x.parquet', {'key': ['a'], 'image': DATA[:1]})}")


def test_tars_of_classes_that_end_in_a_number_are_said_to_be_taken_for_shards(tmp_path: Path) -> None:
    for number in (1, 2):
        shard(tmp_path / f"class_{number}.tar", {f"{number}{n}.png": DATA[n] for n in range(2)})
    said: list[str] = []
    open_collection(tmp_path, report=lambda progress: said.append(progress.note))
    assert any("read as WebDataset shards" in note and f"tars:{tmp_path}" in note for note in said)


def test_names_that_differ_only_in_their_unicode_form_are_said(tmp_path: Path) -> None:
    composed, split = "caf\u00e9", "cafe\u0301"
    place = table(tmp_path / "x.parquet", {"key": [composed, split, "cafe"], "image": DATA})
    said: list[str] = []
    assert len(open_collection(place, report=lambda progress: said.append(progress.note))) == 3
    assert any(note.endswith("Rename them if that is not meant") and "1 keys differ" in note for note in said)
    for name in (composed, split):
        (tmp_path / "t" / "train" / name).mkdir(parents=True)
        for number in range(3):
            picture(number, (9, 7)).save(tmp_path / "t" / "train" / name / f"{number}.png")
    assert "1 class names differ from others only in their Unicode form" in open_folder_target(tmp_path / "t").note


def test_names_of_another_encoding_are_refused(tmp_path: Path) -> None:
    keys = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"stra\xdfe"], pa.binary()).buffers())
    pq.write_table(pa.table({"key": keys, "image": pa.array(DATA[:2], pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="a name is not UTF-8"):
        open_collection(tmp_path)


def test_a_column_that_is_said_to_be_of_two_types_does_not_end_the_process(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"key": ["a"], "image": pa.array(DATA[:1], pa.binary())}), file, compression="none")
    data = file.read_bytes()
    at = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # In the footer: a part of a column begins with its type (6: bytes), its codings and its path of one name, `image`.
    place = data.index(b"\x15\x0c\x19", data.index(b"image", data.index(b"image", at) + 5) - 16)
    file.write_bytes(data[: place + 1] + b"\x04" + data[place + 2 :])
    with contextlib.suppress(DataError):  # it reads what it can: all that matters is that it comes back
        open_collection(tmp_path)


def test_a_damaged_name_of_a_column_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"keyed": ["a"], "key": ["b"], "image": pa.array(DATA[:1], pa.binary())}), file, store_schema=False
    )
    file.write_bytes(file.read_bytes().replace(b"keyed", b"k\x80yed"))
    with pytest.raises(DataError, match=r"a\.parquet: not a whole parquet file .*Fetch it again"):
        open_collection(tmp_path)
