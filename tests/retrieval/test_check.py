"""plada index --check: a sound index passes, and each way of damaging one is found by the check that is meant for it."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import plada
from plada.common.progress import Progress
from plada.errors import DataError, RequestError, UnknownName
from plada.indexer import store as stores
from plada.retrieval.check import CheckReport, check_index
from tests.conftest import edit_json, picture, table_folder

IMAGES = 600


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home and, in `images`, what its index `p` is of: 600 pictures, two of them unreadable. Tests copy both."""
    root = tmp_path_factory.mktemp("checking")
    images = root / "images"
    images.mkdir()
    for number in range(IMAGES):
        picture(number, (24, 20)).save(images / f"{number:04d}.png")
    for number in (7, 100):
        (images / f"{number:04d}.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plada.indexer.build.shard_rows", lambda _: 128)
        patch.setattr("plada.indexer.job.shard_rows", lambda _: 128)
        patch.setattr("plada.indexer.store.shard_rows", lambda _: 128)
        plada.index(images, name="p", encoder="gradients", home=root)
    plada.make_ann("p", home=root)
    return root


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A home of this test's own with the index `p`."""
    shutil.copytree(made, tmp_path / "home", ignore=shutil.ignore_patterns("images"))
    return tmp_path / "home"


@pytest.fixture
def images(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The images of the index, to be changed: they lie where index.json says and are put back afterwards."""
    shutil.copytree(made / "images", tmp_path / "before")
    yield made / "images"
    shutil.rmtree(made / "images", ignore_errors=True)
    shutil.copytree(tmp_path / "before", made / "images")


def check(home: Path, **options: Any) -> CheckReport:
    return check_index("p", home=home, **options)


def failed(report: CheckReport) -> list[str]:
    return [item.what for item in report.items if item.ok is False]


def unchecked(report: CheckReport) -> list[str]:
    return [item.what for item in report.items if item.ok is None]


def say(home: Path, **fields: Any) -> None:
    """Edit index.json."""
    path = home / "indexes" / "p" / "index.json"
    edit_json(path, **fields)


def rewrite(home: Path, change: Callable[[Any], Any]) -> None:
    """Replace the rows by what `change` makes of them, as a version that index.json then names."""
    import lance

    folder = table_folder(home / "indexes" / "p")
    table = change(lance.dataset(folder).to_table())
    written = lance.write_dataset(table, folder, mode="overwrite")
    say(home, version=written.version)


def column(table: Any, name: str, values: Any) -> Any:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def vectors(table: Any, change: Callable[[dict[int, Any]], None]) -> Any:
    """The table with some vectors changed: `change` edits a dict of row to vector (float16 array or None)."""
    rows = dict(enumerate(table.column("vector").to_pylist()))
    change(rows)
    return column(table, "vector", [None if row is None else np.asarray(row, np.float16) for row in rows.values()])


def test_a_sound_index_passes(own: Path) -> None:
    seen: list[Progress] = []
    report = check(own, report=seen.append)
    assert report.ok, failed(report)
    assert (report.unchecked, report.exit_code, report.images) == (0, 0, IMAGES)
    assert [item.what for item in report.items] == [
        "index.json", "rows", "order", "keys", "content", "vectors", "status", "unreadable", "mean", "shards", "manifest",
        "images", "encoder", "embeddings", "ann", "ann recall",
    ]  # fmt: skip
    details = {item.what: item.detail for item in report.items}
    assert details["vectors"] == "598 embeddings, finite and of length one"
    assert details["status"] == "2 images without embedding, each with a reason, and no other"
    assert details["shards"] == "5 digests of 128 rows each"
    assert {one.stage for one in seen} == {"check", "hash"}
    assert json.loads(json.dumps(report.to_dict()))["items"][0] == {
        "what": "index.json", "ok": True, "detail": "complete", "code": 0,
    }  # fmt: skip


def test_full_hashes_every_image(own: Path) -> None:
    details = {item.what: item.detail for item in check(own, full=True).items}
    assert details["images"] == "keys and sizes of all 600 images, content of 600"
    assert "content of 5" in {item.what: item.detail for item in check(own, sample=5).items}["images"]


def swap(rows: dict[int, Any]) -> None:
    rows[200], rows[201] = rows[201], rows[200]


def shorten(rows: dict[int, Any]) -> None:
    rows[200] = np.asarray(rows[200]) * 0.5


def spoil(rows: dict[int, Any]) -> None:
    rows[200] = np.full(len(rows[0]), np.nan)


def drop(rows: dict[int, Any]) -> None:
    rows[200] = None


def invent(rows: dict[int, Any]) -> None:
    rows[7] = rows[8]


DAMAGES: dict[str, tuple[Callable[[Any], Any], set[str]]] = {
    "two vectors exchanged": (lambda table: vectors(table, swap), {"shards"}),
    "a vector of length one half": (lambda table: vectors(table, shorten), {"vectors", "mean", "shards"}),
    "a vector that is not finite": (lambda table: vectors(table, spoil), {"vectors", "mean", "shards"}),
    "a vector that is gone": (lambda table: vectors(table, drop), {"status", "unreadable", "mean", "shards"}),
    "a vector of an unreadable image": (lambda table: vectors(table, invent), {"status", "unreadable", "mean", "shards"}),
    "rows in another order": (
        lambda table: table.take([*range(300), 301, 300, *range(302, IMAGES)]),
        {"order", "keys", "content", "shards", "manifest"},
    ),
    "a row that is missing": (
        lambda table: table.take([*range(300), *range(301, IMAGES)]),
        {"rows", "order", "keys", "content", "mean", "shards", "manifest"},
    ),
    "a key that was renamed": (
        lambda table: column(table, "key", ["0000.pnG", *table.column("key").to_pylist()[1:]]),
        {"keys", "manifest"},
    ),
    "a content hash of another image": (
        lambda table: column(table, "hash", [bytes(16), *table.column("hash").to_pylist()[1:]]),
        {"content", "shards", "manifest"},
    ),
    "a width of another image": (
        lambda table: column(table, "width", [99, *table.column("width").to_pylist()[1:]]),
        {"manifest"},
    ),
    "a status of a readable image": (
        lambda table: column(table, "status", ["odd", *table.column("status").to_pylist()[1:]]),
        {"status"},
    ),
    "a column that is missing": (lambda table: table.drop_columns(["size"]), {"rows"}),
    "a column of another kind": (
        lambda table: table.set_column(0, "position", table.column("position").cast(pa.int64())),
        {"rows"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_rows_that_were_changed(own: Path, what: str) -> None:
    change, expected = DAMAGES[what]
    rewrite(own, change)
    report = check(own, sample=IMAGES)
    # The approximate index was made of another version of the table; that is said as well.
    assert expected <= set(failed(report)) <= expected | {"ann", "images", "embeddings"}, failed(report)
    assert (report.ok, report.exit_code) == (False, 5)


def test_shards_names_the_rows(own: Path) -> None:
    rewrite(own, lambda table: vectors(table, swap))
    (item,) = [item for item in check(own).items if item.what == "shards"]
    assert item.detail == "1 of 5 shards have another digest; the first: rows 128 to 255"


def test_vectors_of_other_images_with_digests_to_match(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes such an index makes its ledger too: only embedding images again tells."""

    def turned(rows: dict[int, Any]) -> None:
        whole = [row for row in rows.values() if row is not None]
        for number, row in enumerate([row for row in rows if rows[row] is not None]):
            rows[row] = whole[(number + 1) % len(whole)]

    rewrite(own, lambda table: vectors(table, turned))
    info = json.loads((own / "indexes" / "p" / "index.json").read_text())
    ledger = stores.Ledger(128)
    for batch in stores.Store(own / "indexes" / "p", info["table"]).batches(["position", "hash", "vector"]):
        ledger.add(batch)
    say(own, shards={"rows": 128, "digests": ledger.digests()}, mean=info["mean"])
    shutil.rmtree(own / "indexes" / "p" / "ann")
    assert failed(check(own)) == ["embeddings"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"images": IMAGES + 1}, {"rows", "ann recall"}),
        ({"unreadable": 0}, {"unreadable"}),
        ({"mean": [0.0] * 256}, {"mean", "ann"}),
        ({"mean": [0.0] * 3}, {"mean", "ann"}),
        ({"key_id": "00" * 16}, {"keys", "images"}),
        ({"content_id": "00" * 16}, {"content", "ann"}),
        ({"version": 99}, {"rows"}),
        ({"shards": {"rows": 128, "digests": ["00" * 16] * 5}}, {"shards"}),
        ({"shards": {"rows": 128, "digests": []}}, {"shards"}),
        ({"shards": {"rows": 0, "digests": []}}, {"index.json"}),
        ({"shards": "none"}, {"index.json"}),
        ({"encoder": {}}, {"index.json"}),
        ({"encoder": None}, {"index.json"}),
        ({"reference": {}}, {"index.json"}),
        ({"dimension": "many"}, {"index.json"}),
    ],
)
def test_an_index_json_that_was_edited(own: Path, fields: dict[str, Any], expected: set[str]) -> None:
    say(own, **fields)
    report = check(own)
    assert set(failed(report)) == expected, report.items
    assert report.exit_code in (4, 5)
    assert not report.ok


def test_an_index_of_an_older_plada_has_no_ledger(own: Path) -> None:
    say(own, shards=None)
    report = check(own)
    assert report.ok
    assert unchecked(report) == ["shards"]


def test_an_encoder_that_gives_other_embeddings(own: Path) -> None:
    info = json.loads((own / "indexes" / "p" / "index.json").read_text())
    other = np.roll(info["encoder"]["self_check"], 1).tolist()
    say(own, encoder={**info["encoder"], "self_check": other})
    report = check(own)
    assert failed(report) == ["encoder"]
    assert report.exit_code == 4


def test_weights_that_are_elsewhere_or_others(tmp_path: Path, pictures: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from plada.common.packages import import_timm

    timm, home = import_timm(), tmp_path / "h"
    for number in range(2):
        torch.manual_seed(number)
        state = timm.create_model("test_vit", num_classes=1000).state_dict()
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / f"{number}.safetensors")
    weights = tmp_path / "here.safetensors"
    shutil.copyfile(tmp_path / "0.safetensors", weights)
    plada.index(pictures, name="p", encoder=plada.EncoderSpec(name="timm:test_vit", weights=weights), home=home)
    assert check(home).ok
    weights.unlink()
    report = check(home)
    assert (report.ok, unchecked(report)) == (True, ["encoder"])
    assert "cannot be loaded here" in next(item.detail for item in report.items if item.what == "encoder")
    assert check(home, weights=tmp_path / "0.safetensors").unchecked == 0
    report = check(home, weights=tmp_path / "1.safetensors")
    assert failed(report) == ["encoder"]
    assert report.exit_code == 4


def test_images_that_changed(own: Path, images: Path) -> None:
    path = images / "0300.png"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    report = check(own, full=True)
    assert failed(report) == ["images"]
    assert report.exit_code == 4
    path.write_bytes(data + b"more")
    assert failed(check(own, sample=0)) == ["images"]
    path.unlink()
    report = check(own)
    assert failed(report) == ["images"]
    assert "599 images with other keys" in next(item.detail for item in report.items if item.what == "images")


def test_images_that_are_not_here(own: Path, images: Path) -> None:
    shutil.rmtree(images)
    report = check(own)
    assert report.ok
    assert unchecked(report) == ["manifest", "images"]


def test_a_manifest_that_is_gone_or_damaged(own: Path) -> None:
    (path,) = (own / "references").glob("*/manifest.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    assert failed(check(own)) == ["manifest"]
    path.unlink()
    report = check(own)
    assert report.ok
    assert unchecked(report) == ["manifest"]


@pytest.mark.parametrize("name", ["index.faiss", "vectors.f16"])
def test_one_wrong_byte_in_the_approximate_index(own: Path, name: str) -> None:
    path = own / "indexes" / "p" / "ann" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = check(own)
    assert failed(report) == ["ann"]
    assert report.exit_code == 5


def test_an_approximate_index_of_another_table(own: Path) -> None:
    path = own / "indexes" / "p" / "ann" / "ann.json"
    info = json.loads(path.read_text())
    edit_json(path, made_of={**info["made_of"], "version": 1})
    report = check(own)
    assert failed(report) == ["ann"]
    assert report.exit_code == 4


def test_an_approximate_index_that_misses_what_it_promised_to_find(own: Path) -> None:
    path = own / "indexes" / "p" / "ann" / "ann.json"
    info = json.loads(path.read_text())
    edit_json(path, parameters={**info["parameters"], "nprobe": 1, "candidates": 1})
    report = check(own)
    assert failed(report) == ["ann recall"]
    assert report.exit_code == 5


def test_a_wrong_bit_in_the_table_is_found_and_no_crash(own: Path) -> None:
    files = sorted((table_folder(own / "indexes" / "p") / "data").rglob("*.lance"))
    rng, missed = np.random.default_rng(0), []
    shutil.rmtree(own / "indexes" / "p" / "ann")
    for _ in range(24):
        path = files[int(rng.integers(len(files)))]
        kept = path.read_bytes()
        data = bytearray(kept)
        # The last column, the looks, has no digest: it begins after nine tenths or so.
        at = int(rng.integers(len(data) * 4 // 5))
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        report = check(own)
        path.write_bytes(kept)
        assert report.exit_code == (0 if report.ok else 5)
        missed += [(path.name, at, len(data))] if report.ok else []
    assert not missed
    assert check(own).ok


def test_a_table_file_that_is_gone_or_cut(own: Path) -> None:
    path = sorted((table_folder(own / "indexes" / "p") / "data").rglob("*.lance"))[1]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    report = check(own)
    assert failed(report) == ["rows"]
    assert "cannot be read" in report.items[-1].detail
    path.unlink()
    assert failed(check(own)) == ["rows"]


def test_bad_questions(own: Path) -> None:
    with pytest.raises(UnknownName):
        check_index("q", home=own)
    with pytest.raises(RequestError, match="sample"):
        check(own, sample=-1)
    (own / "indexes" / "p" / "index.json").write_text("{")
    with pytest.raises(DataError, match=r"index\.json"):
        check(own)


def test_a_manifest_may_know_the_width_of_what_cannot_be_decoded(pictures: Path, tmp_path: Path) -> None:
    path = min(pictures.rglob("*.png"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # its header says a width, nothing decodes
    home = tmp_path / "home"
    plada.index(pictures, name="p", encoder="gradients", home=home)
    for manifest in home.rglob("manifest.parquet"):
        manifest.unlink()
    plada.verify(pictures, home=home)  # makes a manifest from the headers
    report = check(home)
    assert failed(report) == []
    assert next(item for item in report.items if item.what == "manifest").ok
