"""Files that are believed later: one wrong bit anywhere is noticed."""

import json
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.common.checksums import Damaged, is_sealed, seal, sealed_json, unseal
from plada.errors import DataError, PladaError
from plada.labeler.embedding_cache import load_embeddings, save_embeddings
from plada.networks.checkpoint import read_checkpoint
from plada.sources.formats import listing
from plada.trainer.model_file import check_model, read_card, save_model
from tests.conftest import picture, table_folder

FLIPS = 60


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one bit turned."""
    wrong = bytearray(data)
    wrong[int(rng.integers(len(wrong)))] ^= 1 << int(rng.integers(8))
    return bytes(wrong)


def test_sealed_bytes_and_json() -> None:
    rng = np.random.default_rng(0)
    whole = seal(b"something")
    assert unseal(whole) == b"something"
    text = json.dumps(sealed_json({"a": 1.5, "b": ["x"]}))
    assert is_sealed(json.loads(text))
    for _ in range(FLIPS):
        with pytest.raises(Damaged):
            unseal(flipped(whole, rng))
        try:
            found = json.loads(flipped(text.encode(), rng))
        except ValueError:
            continue
        assert not is_sealed(found) or found == json.loads(text)


def test_a_wrong_bit_in_a_model(tmp_path: Path) -> None:
    import torch

    path, rng = tmp_path / "m.safetensors", np.random.default_rng(0)
    save_model(path, {"weight": torch.randn(8, 8)}, {"network": "small_cnn", "classes": ["a", "b"]})
    whole = path.read_bytes()
    check_model(path)
    save_model(tmp_path / "again", {"weight": torch.zeros(2)}, read_card(path))
    check_model(tmp_path / "again")
    for _ in range(FLIPS):
        path.write_bytes(flipped(whole, rng))
        with pytest.raises(DataError):
            read_card(path)
            check_model(path)


def test_a_wrong_bit_in_a_checkpoint(tmp_path: Path) -> None:
    import io

    import torch

    data, rng = io.BytesIO(), np.random.default_rng(0)
    torch.save({"plada": 1, "weights": torch.randn(50)}, data)
    whole, path = seal(data.getvalue()), tmp_path / "c"
    path.write_bytes(whole)
    assert read_checkpoint(path)["plada"] == 1
    for _ in range(FLIPS):
        path.write_bytes(flipped(whole, rng))
        with pytest.raises(DataError, match="Begin anew with --restart"):
            read_checkpoint(path)


def test_a_wrong_bit_in_a_cache_of_embeddings(tmp_path: Path) -> None:
    path, rng, said = tmp_path / "x.npz", np.random.default_rng(0), list[str]()
    save_embeddings(path, "d", np.ones((5, 4), np.float32), np.ones(5, np.bool_))
    whole = path.read_bytes()
    for _ in range(FLIPS):
        path.write_bytes(flipped(whole, rng))
        assert load_embeddings(path, "d", images=5, dimension=4, say=said.append) is None
    assert len(said) == FLIPS and "made again" in said[0]


def test_a_wrong_bit_in_a_listing(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SPILL", 4)
    monkeypatch.setattr("plada.sources.formats.folder.settled", lambda stamps, start: stamps)
    first = plada.open_images(pictures, home=tmp_path)
    (folder,) = (path.parent for path in tmp_path.glob("listings/*/listing.json"))
    assert listing.load_listing(folder, lambda _: True) is not None
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for _ in range(10):
            path.write_bytes(flipped(whole, rng))
            assert listing.load_listing(folder, lambda _: True) is None
        path.write_bytes(whole)
    assert len(first) == 24
    said: list[str] = []
    (folder / "size.npy").write_bytes(flipped((folder / "size.npy").read_bytes(), rng))
    for _ in range(2):
        again = plada.open_images(pictures, home=tmp_path, report=lambda progress: said.append(progress.note))
        assert again.manifest.content_id == first.manifest.content_id
    assert len([note for note in said if "the kept listing is damaged" in note and "listed again" in note]) == 1


def test_wrong_bits_in_an_index(pictures: Path, home: Path) -> None:
    plada.index(pictures, name="p", encoder="gradients")
    folder, rng = home / "indexes" / "p", np.random.default_rng(0)
    path = folder / "index.json"
    whole, info = path.read_bytes(), plada.open_index("p").info
    for _ in range(FLIPS):
        path.write_bytes(flipped(whole, rng))
        try:
            assert plada.open_index("p").info == info
        except DataError as err:
            assert "index.json" in str(err)
    path.write_bytes(whole)
    (rows,) = (table_folder(folder) / "data").glob("*.lance")
    whole, index = rows.read_bytes(), plada.open_index("p")
    vectors, looks = b"".join(block.tobytes() for _, block in index.scan()), np.concatenate(list(index.fingerprints()))
    at = whole.index(index.vectors([5]).tobytes())
    rows.write_bytes(whole[: at + 7] + bytes([whole[at + 7] ^ 16]) + whole[at + 8 :])
    with pytest.raises(DataError, match="the vectors of images 0 and following are not those that were written"):
        list(plada.open_index("p").scan())
    with pytest.raises(DataError, match="the vectors of images 0 and following are not those that were written"):
        plada.open_index("p").vectors([5])
    key = whole.index(b"n1/image_04")
    rows.write_bytes(whole[:key] + b"n1/image_07" + whole[key + 11 :])
    for read in (lambda: plada.open_index("p").keys([0]), lambda: list(plada.open_index("p").keys_in_order())):
        with pytest.raises(DataError, match="the keys of images 0 and following are not those that were written"):
            read()
    picture(99).save(pictures / "n0" / "new.png")
    with pytest.raises(DataError, match="rows of the index are not those that were written, and are not taken over"):
        plada.index(pictures, name="p", encoder="gradients", append=True)
    for _ in range(FLIPS):
        rows.write_bytes(flipped(whole, rng))
        try:
            opened = plada.open_index("p")
            assert b"".join(block.tobytes() for _, block in opened.scan()) == vectors
            assert np.array_equal(np.concatenate(list(opened.fingerprints())), looks)
        except PladaError as err:
            assert "damaged" in str(err)


def test_damaged_fingerprints_are_made_again_and_said(pictures: Path, target_folder: Path, home: Path) -> None:
    first = plada.verify(pictures, leaks=target_folder)
    (path,) = home.glob("references/*/looks-*.bin")
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole) - 32) + whole[-32:])
    said: list[str] = []
    again = plada.verify(pictures, leaks=target_folder, report=lambda progress: said.append(progress.note))
    assert first.leaks is not None and again.leaks is not None
    assert again.leaks.near_copies == first.leaks.near_copies
    assert path.read_bytes() == whole
    assert sum("checksum is wrong" in note for note in said) == 1
