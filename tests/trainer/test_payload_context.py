"""What a client is taken to know, and packs: found by the ids of a header, or named where they are not here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import plada
from plada.errors import ReferenceMismatch, RequestError, SideMissing
from plada.payload.container import Header
from plada.payload.pack import copy_pack, read_pack, write_pack
from plada.payload.shared_context import SharedContext
from plada.trainer.payload_context import PayloadContext, extend_shared_context, find_folder_bounds, find_shared_context
from tests.conftest import picture


@pytest.fixture
def header(pictures: Path, home: Path) -> Header:
    """The header of a payload of the 24 pictures in three folders, whose manifest is in the home."""
    manifest = plada.open_images(pictures).manifest
    return Header(24, 3, manifest.key_id[:8], manifest.content_id[:8])


def write(path: Path, key: bytes, seed: int = 0, images: int = 24) -> Path:
    rows = np.random.default_rng(seed).integers(-127, 128, (images, 4), dtype=np.int8)
    write_pack(path, [rows], key_id=key.ljust(16, b"\0"), images=images, dimensions=4)
    return path


def test_keys_without_folders_have_no_blocks(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(3):
        picture(number).save(flat / f"{number}.png")
    images = plada.open_images(flat)
    header = Header(3, 1, images.manifest.key_id, images.manifest.content_id)
    context = PayloadContext(home=tmp_path / "home")
    assert find_folder_bounds(header, context) is None
    assert find_shared_context(header, context).blocks is None


def test_a_pack_is_found_by_its_id(header: Header, home: Path, tmp_path: Path) -> None:
    pack = write(tmp_path / "a.pack", header.key_id)
    context = PayloadContext(home=home)
    with pytest.raises(SideMissing, match="plada index NAME --pack"):
        find_shared_context(header, context, "pack")
    given = find_shared_context(header, PayloadContext(home=home, pack=pack), "pack")
    installed = copy_pack(read_pack(pack), home)
    found = find_shared_context(header, context, "pack")
    assert found.pack_id == given.pack_id == installed.pack_id
    assert found.features is not None and given.blocks is not None
    assert find_shared_context(header, context, "manifest").features is None
    assert find_shared_context(header, context, "nothing").blocks is None
    with pytest.raises(RequestError, match="nothing, manifest, pack"):
        find_shared_context(header, context, "everything")
    other = write(tmp_path / "b.pack", header.key_id, seed=1)
    with pytest.raises(ReferenceMismatch, match="the payload was made with"):
        find_shared_context(
            replace(header, pack_id=installed.pack_id[:8]), PayloadContext(home=home, pack=other), "pack"
        )
    stranger = write(tmp_path / "c.pack", bytes(8))
    with pytest.raises(ReferenceMismatch, match="a pack of 24 images"):
        find_shared_context(header, PayloadContext(home=home, pack=stranger), "pack")


def test_a_pack_that_is_not_here_is_named(header: Header, home: Path) -> None:
    named = replace(header, pack_id=bytes(range(8)))
    with pytest.raises(
        SideMissing, match=r"needs the pack 0001020304050607.*install-pack FILE.*--client-has manifest"
    ) as caught:
        extend_shared_context(SharedContext(), named, "pack", PayloadContext(home=home))
    assert caught.value.needs == "pack"
