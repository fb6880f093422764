"""References and packs in a catalogue: forms for clients that have a pack, manifests and packs that clients pull."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.errors import (
    DataError,
    PayloadCorrupt,
    PayloadError,
    ReferenceMismatch,
    RequestError,
    SideMissing,
    UnknownName,
)
from plada.payload.catalogue.envelope import read_envelope, seal, write_envelope
from plada.payload.pack import packs_folder, write_pack
from plada.payload.payload import Payload
from plada.sources.manifest import Manifest
from plada.trainer import payload_images
from tests.payload.payloads import CONTENT, KEY, same
from tests.payload.shapes import features_of

IMAGES = 4000
CLASSES = ("ant", "bee", "cat")


def labelled(seed: int = 0, kept: int = 300) -> Payload:
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(IMAGES, kept, replace=False))
    return Payload(positions, positions * 7 // 5 % 3, CLASSES, IMAGES, KEY, CONTENT)


def install(home: Path, payload: Payload) -> Path:
    """A pack that tells much of a payload, installed."""
    features = features_of(IMAGES, payload.positions, payload.labels, 8, seed=1)
    write_pack(home / "made.pack", [features], key_id=KEY * 2, images=IMAGES, dimensions=8)
    return Path(plada.install_pack(home / "made.pack", home=home).path)


def forge(file: Path, **members: Any) -> None:
    value = read_envelope(file.read_bytes(), "").value("")
    file.write_bytes(write_envelope(seal({**value, **members}, None)))


def test_a_form_for_clients_with_the_pack(tmp_path: Path) -> None:
    """The owner has the pack, so both forms are published; a client takes the one that it can read."""
    server, client, shop = tmp_path / "server", tmp_path / "client", tmp_path / "shop"
    payload = labelled()
    install(server, payload)
    payload.save(tmp_path / "pets.plada")
    (task,) = plada.publish(shop, [tmp_path / "pets.plada"], home=server).tasks
    assert set(task.forms) == {"nothing", "pack"}
    assert task.forms["pack"] < 0.95 * task.forms["nothing"]
    bare = plada.pull(shop, "pets", home=client).tasks[0]
    assert bare.payload_bytes == task.forms["nothing"]
    with_pack = plada.pull(shop, "pets", home=server).tasks[0]
    assert with_pack.payload_bytes == task.forms["pack"]
    assert same(plada.read_payload("pets", home=server), payload)
    assert (
        plada.pull(shop, "pets", home=tmp_path / "c", have="manifest").tasks[0].payload_bytes == task.forms["nothing"]
    )


def test_a_payload_that_needs_a_pack(tmp_path: Path) -> None:
    """Named alone, a form for everybody else is added; where none is, a client without the pack is told what to bring."""
    server, client, shop = tmp_path / "server", tmp_path / "client", tmp_path / "shop"
    payload = labelled()
    pack = install(server, payload)
    plada.write_payload(payload, tmp_path / "pets.plada", delivery=plada.Delivery(client_has="pack"), home=server)
    (task,) = plada.publish(shop, [tmp_path / "pets.plada"], home=server).tasks
    assert set(task.forms) == {"nothing", "pack"}
    value = read_envelope((shop / "tasks/pets").read_bytes(), "").value("")
    forge(shop / "tasks/pets", forms=[form for form in value["forms"] if form["needs"] == "pack"])
    with pytest.raises(SideMissing, match="--reference"):
        plada.pull(shop, "pets", home=client)
    (early,) = plada.pull(shop, "pets", home=client, have="pack").tasks
    assert not early.checked
    with pytest.raises(SideMissing):
        plada.read_payload("pets", home=client)
    plada.install_pack(pack, home=client)
    assert same(plada.read_payload("pets", home=client), payload)
    with pytest.raises(SideMissing):  # a server without the pack cannot compare what it publishes
        plada.publish(tmp_path / "other", [tmp_path / "pets.plada"], home=tmp_path / "empty")


def test_changes_for_clients_with_the_pack(tmp_path: Path) -> None:
    server, shop = tmp_path / "server", tmp_path / "shop"
    first, second = labelled(), labelled()
    install(server, first)
    second = Payload(first.positions[:-6], first.labels[:-6], CLASSES, IMAGES, KEY, CONTENT)
    for payload in (first, second):
        payload.save(tmp_path / "pets.plada")
        plada.publish(shop, [tmp_path / "pets.plada"], home=server)
        for home in (server, tmp_path / "client"):
            plada.pull(shop, "pets", home=home)
            assert same(plada.read_payload("pets", home=home), payload)


@pytest.fixture
def shop(tmp_path: Path, pictures: Path) -> Path:
    """A catalogue with a reference of 24 pictures: manifest, a pack, and a task of it."""
    server = tmp_path / "server"
    manifest = plada.open_images(pictures, home=server).manifest
    positions = np.arange(0, 24, 2)
    payload = Payload(positions, positions // 2 % 2, ("a", "b"), 24, manifest.key_id, manifest.content_id)
    payload.save(tmp_path / "pets.plada")
    features = np.random.default_rng(0).integers(-9, 9, (24, 3)).astype(np.int8)
    write_pack(tmp_path / "p.pack", [features], key_id=manifest.key_id, images=24, dimensions=3)
    plada.install_pack(tmp_path / "p.pack", home=server)
    summary = plada.publish(
        tmp_path / "shop",
        [tmp_path / "pets.plada"],
        reference=[f"photos={pictures}"],
        home=server,
        expires="2100-01-01",
    )
    assert summary.references == ("photos",)
    return tmp_path / "shop"


def test_manifest_and_pack_come_into_the_home(
    shop: Path, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, moved = tmp_path / "client", tmp_path / "elsewhere"
    shutil.copytree(pictures, moved)
    assert plada.pull(shop, home=client).offered_references == ("photos",)
    (dry,) = plada.pull(shop, reference="photos", home=client, dry_run=True).references
    assert dry.manifest is None
    assert not packs_folder(client).exists()
    (found,) = plada.pull(shop, reference="photos", home=client).references
    assert found.bytes == dry.bytes > 0
    assert found.manifest is not None
    assert Path(found.manifest).exists()
    assert [Path(pack).exists() for pack in found.packs] == [True]
    assert plada.pull(shop, reference="photos", home=client).references[0].bytes == 0
    assert not list(client.rglob("incoming/*"))
    # Its images are known by that manifest: none but those of the task is hashed.
    plada.pull(shop, "pets", home=client)
    monkeypatch.setattr(payload_images, "open_reference", lambda *_, **__: pytest.fail("all images were hashed"))
    assert plada.export("pets", to="csv", out=tmp_path / "t.csv", reference=moved, home=client).exists()
    assert "pictures" not in json.dumps(read_envelope((shop / "catalogue").read_bytes(), "").value(""))


def test_a_copy_that_lacks_images(shop: Path, tmp_path: Path, pictures: Path) -> None:
    """The server's manifest says which."""
    client, copy = tmp_path / "client", shutil.copytree(pictures, tmp_path / "copy")
    (copy / "n0/image_00.png").unlink()
    plada.pull(shop, reference="photos", home=client)
    plada.pull(shop, "pets", home=client)
    with pytest.raises(ReferenceMismatch, match=r"n0/image_00 \(missing\)"):
        plada.export("pets", to="folder", out=tmp_path / "x", reference=copy, home=client)
    kept = plada.ReferenceCopy(location=copy, skip_changed=True)
    assert plada.export("pets", to="folder", out=tmp_path / "y", reference=kept, home=client).exists()


def test_a_manifest_that_was_changed(shop: Path, tmp_path: Path) -> None:
    value = read_envelope((shop / "catalogue").read_bytes(), "").value("")
    entry = value["references"]["photos"]
    file = shop / "files" / entry["manifest"]["file"]
    data = file.read_bytes()
    file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(PayloadCorrupt):
        plada.pull(shop, reference="photos", home=tmp_path / "a")
    file.write_bytes(data)
    forge(shop / "catalogue", references={"photos": {**entry, "content_id": "00" * 16}})
    with pytest.raises(ReferenceMismatch, match="the catalogue says 24"):
        plada.pull(shop, reference="photos", home=tmp_path / "b")
    swapped = {**entry, "manifest": {name: entry["packs"][0][name] for name in ("file", "bytes")}}
    forge(shop / "catalogue", references={"photos": swapped})
    with pytest.raises(DataError, match="not a readable manifest"):
        plada.pull(shop, reference="photos", home=tmp_path / "c")
    other = {**entry, "packs": [{**entry["packs"][0], "pack_id": "11" * 16}]}
    forge(shop / "catalogue", references={"photos": other})
    with pytest.raises(ReferenceMismatch, match="the pack that came is"):
        plada.pull(shop, reference="photos", home=tmp_path / "d")
    assert not packs_folder(tmp_path / "d").exists()
    swapped = {
        **entry,
        "packs": [{**entry["packs"][0], **{name: entry["manifest"][name] for name in ("file", "bytes")}}],
    }
    forge(shop / "catalogue", references={"photos": swapped})
    with pytest.raises(PayloadError, match="not a plada pack"):
        plada.pull(shop, reference="photos", home=tmp_path / "e")


def test_references_that_are_not_there(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="known: photos"):
        plada.pull(shop, reference="pictures")
    labelled().save(tmp_path / "other.plada")
    plada.publish(shop, [tmp_path / "other.plada"], home=tmp_path / "server")
    name = f"reference-{KEY.hex()}"
    with pytest.raises(RequestError, match="has neither its manifest nor a pack"):
        plada.pull(shop, reference=name)


def test_a_reference_that_is_to_be_had_elsewhere(tmp_path: Path, pictures: Path) -> None:
    """It is hashed where it is published, and not copied; the catalogue says where it is."""
    server, shop = tmp_path / "server", tmp_path / "shop"
    manifest: Manifest = plada.open_images(pictures, home=server).manifest
    url = "https://example.org/manifest.parquet"
    plada.publish(shop, reference=[f"photos={pictures}"], urls={"photos.manifest": url}, home=server)
    value = read_envelope((shop / "catalogue").read_bytes(), "").value("")
    assert value["references"]["photos"]["manifest"]["url"] == url
    assert value["references"]["photos"]["manifest"]["bytes"] == manifest.path.stat().st_size
    assert not (shop / "files").exists()
    with pytest.raises(UnknownName):
        plada.publish(shop, remove=["nothing"], home=server)


def test_names_of_references(shop: Path, tmp_path: Path, pictures: Path) -> None:
    server = tmp_path / "server"
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    (other / "n0/image_00.png").unlink()
    with pytest.raises(RequestError, match="Give this one another name"):
        plada.publish(shop, reference=[f"photos={other}"], home=server)
    assert plada.publish(shop, reference=[str(other)], home=server).references == ("other", "photos")
    gone = plada.publish(shop, remove=["photos"], home=server)
    assert gone.references == ("other",)  # the task still names it, without its files
    assert plada.pull(shop).listed[0].reference == "photos"
