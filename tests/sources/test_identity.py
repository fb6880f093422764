"""Manifests and references: the same number means the same image, or nothing happens."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.errors import DataError, ReferenceMismatch
from plada.sources.formats.folder import open_folder
from plada.sources.manifest import load_manifest
from plada.sources.reference import check_identity, find_reference, kept_manifests
from plada.sources.scan import scan_manifest
from plada.sources.storage import plain_name, slug
from tests.conftest import picture


def test_a_manifest_comes_back_as_it_was(pictures: Path, tmp_path: Path) -> None:
    manifest = scan_manifest(open_folder(pictures), tmp_path / "m.parquet")
    again = load_manifest(tmp_path / "m.parquet")
    assert again.keys.to_pylist() == open_folder(pictures).keys.to_pylist()
    sizes = np.concatenate([table.column(0).to_numpy() for table in again.blocks(["size"])])
    assert sizes.tolist() == open_folder(pictures).sizes.tolist()
    assert (again.key_id, again.content_id) == (manifest.key_id, manifest.content_id)
    again.check()


def test_the_ids_never_change() -> None:
    """Pinned: payloads in the field carry these. Another value means another format."""
    import pyarrow as pa

    from plada.sources.manifest import content_hash, content_id, key_id

    assert key_id(pa.array(["n1/a", "n1/é", "n2/b"])).hex() == "d38f64bdd3bc0a7849f53a9025dcb151"
    assert content_hash(b"image").hex() == "0229ff7dec8a365f7300835d17549486"
    assert content_id(np.arange(48, dtype=np.uint8).reshape(3, 16)).hex() == "eb69c038ae9c7fb66f2cedbb25ca3d8b"


def test_a_damaged_manifest_is_refused(pictures: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "m.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="not a readable manifest"):
        load_manifest(path)
    pq.write_table(pa.table({"key": ["a"]}), path)
    with pytest.raises(DataError, match="not a manifest of format"):
        load_manifest(path)
    scan_manifest(open_folder(pictures), path)
    table = pq.read_table(path)
    turned = table["key"].take(list(range(24))[::-1])
    columns = [turned if name == "key" else table[name] for name in table.column_names]
    stored = pq.ParquetFile(path).metadata.metadata.items()
    ids = {name: value for name, value in stored if name not in (b"ARROW:schema", b"footer_digest")}
    swapped = pa.Table.from_arrays(columns, schema=table.schema.with_metadata(ids))
    pq.write_table(swapped, path)
    with pytest.raises(DataError, match="its rows do not have the ids"):
        load_manifest(path).check()


def test_a_reference_is_hashed_once(pictures: Path) -> None:
    assert not plada.open_images(pictures).reused
    assert plada.open_images(pictures).reused


def test_an_added_image_makes_another_reference(pictures: Path) -> None:
    before = plada.open_images(pictures).manifest
    picture(99).save(pictures / "n0" / "new.png")
    after = plada.open_images(pictures)
    assert not after.reused
    assert after.manifest.key_id != before.key_id


def test_changed_bytes_of_the_same_size_are_noticed(pictures: Path) -> None:
    before = plada.open_images(pictures).manifest
    for path in pictures.rglob("*.png"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    after = plada.open_images(pictures)
    assert after.manifest.key_id == before.key_id
    assert after.manifest.content_id != before.content_id


def test_an_image_is_hashed_again_when_it_is_read(pictures: Path) -> None:
    reference = plada.open_images(pictures)
    assert reference.image(0).size == (40, 30)
    path = pictures / "n0" / "image_00.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ReferenceMismatch, match=r"image 0 \(n0/image_00\) has changed"):
        reference.read(0)


def test_identity_is_compared_before_anything(pictures: Path) -> None:
    reference = plada.open_images(pictures)
    manifest = reference.manifest
    key, content = manifest.key_id[:8], manifest.content_id[:8]
    check_identity(reference, images=24, key=key, content=content)
    with pytest.raises(ReferenceMismatch, match="of 25 images"):
        check_identity(reference, images=25, key=key, content=content)
    with pytest.raises(ReferenceMismatch, match="first key 'n0/image_00'"):
        check_identity(reference, images=24, key=b"\0" * 8, content=content)
    with pytest.raises(ReferenceMismatch, match="--same-keys"):
        check_identity(reference, images=24, key=key, content=b"\0" * 8)
    check_identity(reference, images=24, key=key, content=b"\0" * 8, same_keys=True)


def test_a_reference_is_found_by_its_key_id(pictures: Path, home: Path) -> None:
    manifest = plada.open_images(pictures).manifest
    assert find_reference(manifest.key_id[:8], home) == str(pictures)
    assert find_reference(b"\1" * 8, home) is None


def test_the_manifest_of_the_whole_copy_outlives_the_loss_of_an_image(pictures: Path, home: Path) -> None:
    whole = plada.open_images(pictures).manifest
    lost = pictures / "n0" / "image_00.png"
    data = lost.read_bytes()
    lost.unlink()
    less = plada.open_images(pictures)
    assert (len(less), less.manifest.content_id != whole.content_id) == (23, True)
    kept = [found.manifest.content_id for found in kept_manifests(home, b"")]
    assert sorted(kept) == sorted([whole.content_id, less.manifest.content_id])
    assert find_reference(whole.key_id[:8], home, content=whole.content_id[:8]) == str(pictures)
    lost.write_bytes(data)
    again = plada.open_images(pictures)
    assert (again.reused, again.manifest.content_id) == (True, whole.content_id)
    again.manifest.check()


def test_the_reference_that_fits_is_found(pictures: Path, home: Path, tmp_path: Path) -> None:
    """Among copies with the same keys, the one whose bytes fit; never one that is gone, and damaged records are said."""
    copies = [tmp_path / name for name in ("a", "b", "c")]
    for number, copy in enumerate(copies):
        shutil.copytree(pictures, copy)
        if number != 1:
            path = copy / "n0" / "image_00.png"
            path.write_bytes(path.read_bytes() + bytes(number + 1))
    manifests = [plada.open_images(copy).manifest for copy in copies]
    wanted = manifests[1]
    shutil.rmtree(copies[0])
    (home / "references" / "a0").mkdir()
    (home / "references" / "a0" / "reference.json").write_text("{")
    said: list[str] = []
    found = find_reference(wanted.key_id[:8], home, content=wanted.content_id, report=lambda p: said.append(p.note))
    assert found == str(copies[1])
    assert any("a0/reference.json: cannot be read" in note for note in said)
    for path in home.glob(
        "references/c-*/reference.json"
    ):  # a wrong bit leads elsewhere: to the copy that fits, once more
        path.write_text(path.read_text().replace(str(copies[2]), str(copies[1])))
        assert find_reference(wanted.key_id[:8], home, report=lambda p: said.append(p.note)) == str(copies[1])
        assert "c-" in said[-1] and "its checksum is wrong" in said[-1]
        path.write_text(path.read_text().replace(str(copies[1]), str(copies[2])))
    shutil.rmtree(copies[1])
    assert find_reference(wanted.key_id[:8], home, content=wanted.content_id) == str(copies[2])
    shutil.rmtree(copies[2])
    assert find_reference(wanted.key_id[:8], home) is None


def test_slugs_tell_places_apart() -> None:
    assert slug("glyphs") == "glyphs"
    assert slug("/a/images") != slug("/b/images")
    assert slug("glyphs:count=5").startswith("glyphs-count-5-")
    assert (plain_name("/a/my photos"), plain_name("glyphs")) == ("my-photos", "glyphs")
