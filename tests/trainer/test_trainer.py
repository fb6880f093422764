"""The client: the recipe, the loop, what a student keeps, and exports that come back as they went out."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import plada
from plada.errors import DataError, ReferenceMismatch, RequestError, UnknownName
from plada.networks.data import ImagesInMemory, StreamedImages, load_images
from plada.networks.loop import fit, predict
from plada.networks.network import NetworkSpec, build_network
from plada.networks.recipe import Recipe, default_recipe
from plada.networks.step import freeze_batch_norm, parameter_groups
from plada.payload.payload import Payload
from plada.sources.decode import View
from plada.trainer.payload_images import ReferenceCopy


def shades(n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bars that lie or stand: two classes that no flip or shift confuses."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    pixels = rng.integers(0, 40, (n, size, size, 3))
    for image, label, at in zip(pixels, labels, rng.integers(size // 4, 3 * size // 4, n), strict=True):
        (image if label else image.transpose(1, 0, 2))[at - 1 : at + 1] += 180
    return pixels.astype(np.uint8), labels.astype(np.int64)


QUICK = Recipe(epochs=8, learning_rate=3e-3, rotate=5.0, batch_size=32)


def trained(seed: int, recipe: Recipe = QUICK, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    import torch

    torch.manual_seed(seed)
    network = build_network(NetworkSpec(name="small_cnn", image_size=size), classes=2)
    fit(network, ImagesInMemory(*shades(200, size * recipe.supersample)), recipe=recipe, seed=seed)
    pixels, labels = shades(100, size, seed=9)
    return predict(network, pixels), labels


def test_the_loop_learns_and_repeats_itself_bit_for_bit() -> None:
    logits, labels = trained(0)
    assert (logits.argmax(1) == labels).mean() > 0.9
    assert np.array_equal(logits, trained(0)[0])
    assert not np.array_equal(logits, trained(1)[0])


def test_averaged_weights_and_supersampling() -> None:
    for recipe in (QUICK.changed({"ema": 0.8}), QUICK.changed({"supersample": 2})):
        logits, labels = trained(0, recipe)
        assert (logits.argmax(1) == labels).mean() > 0.9


def test_fewer_images_than_a_batch() -> None:
    network = build_network(NetworkSpec(name="small_cnn", image_size=16), classes=2)
    fit(network, ImagesInMemory(*shades(5, 16)), recipe=QUICK, seed=0)
    assert np.isfinite(predict(network, shades(5, 16)[0])).all()


def test_streaming_leaves_out_what_cannot_be_read(pictures: Path) -> None:
    (pictures / "n1" / "image_01.jpg").write_bytes(b"broken")
    reference = plada.open_images(pictures)
    broken = next(p for p in range(24) if reference.read(p) == b"broken")
    images = load_images(reference.read, np.arange(24), np.arange(24), View(size=16), where="x", memory=0)
    assert isinstance(images, StreamedImages)
    order = [np.array([broken]), np.array([5, broken, 7]), *np.arange(24).reshape(12, 2)]
    seen = [labels.tolist() for _, labels in images.batches(order)]
    assert seen[:2] == [[], [5, 7]]
    assert sorted(label for labels in seen[2:] for label in labels) == [p for p in range(24) if p != broken]
    assert images.readable() == 23


def test_streamed_batches_are_those_in_memory(pictures: Path, tmp_path: Path) -> None:
    import torch

    reference, view = plada.open_images(pictures), View(size=16)
    positions, labels = np.arange(24), np.arange(24) % 2
    states = []
    for memory, cache in ((1 << 30, None), (0, None), (0, tmp_path / "cache")):
        images = load_images(reference.read, positions, labels, view, where="x", memory=memory, cache=cache)
        torch.manual_seed(0)
        network = build_network(NetworkSpec(name="small_cnn", image_size=16), classes=2)
        fit(network, images, recipe=Recipe(epochs=2, batch_size=5), seed=0)
        states.append(network.module.state_dict())
    assert all(torch.equal(states[0][name], other[name]) for other in states[1:] for name in states[0])


def test_kept_pixels_are_decoded_once_and_leave_no_file(pictures: Path, tmp_path: Path) -> None:
    (pictures / "n1" / "image_01.jpg").write_bytes(b"broken")
    reference, reads = plada.open_images(pictures), list[int]()

    def read(position: int) -> bytes:
        reads.append(position)
        return reference.read(position)

    cache = tmp_path / "cache"
    images = load_images(read, np.arange(24), np.arange(24), View(size=16), where="x", memory=0, cache=cache)
    first, second = (list(images.batches(np.arange(24).reshape(4, 6))) for _ in range(2))
    assert sorted(reads) == list(range(24))
    for (pixels, labels), (again, same) in zip(first, second, strict=True):
        assert np.array_equal(pixels, again)
        assert np.array_equal(labels, same)
    assert images.readable() == 23
    assert list(cache.iterdir()) == []


def test_where_the_disk_has_no_room_pixels_are_decoded_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("plada.networks.data.os.posix_fallocate", full)
    read = plada.open_images(pictures).read
    images = load_images(read, np.arange(24), np.arange(24), View(size=16), where="x", memory=0, cache=tmp_path)
    assert isinstance(images, StreamedImages)
    assert images.cache is None
    assert len(next(iter(images.batches([np.arange(4)])))[1]) == 4


def test_a_loss_that_explodes_is_said() -> None:
    network = build_network(NetworkSpec(name="small_cnn", image_size=16), classes=2)
    for parameter in network.module.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(RequestError, match=r"the loss is nan after .* Lower the learning rate"):
        fit(network, ImagesInMemory(*shades(40, 16)), recipe=QUICK, seed=0)


def test_a_trained_body_learns_more_slowly_than_its_head() -> None:
    from dataclasses import replace

    network = build_network(NetworkSpec(name="test_resnet"), classes=2)
    recipe = Recipe(learning_rate=0.1, body_rate=0.5)
    assert len(parameter_groups(network, recipe)) == 1
    head, body = parameter_groups(replace(network, trained=True), recipe)
    assert ("lr" in head, body["lr"]) == (False, 0.05)
    assert next(tuple(p.shape) for p in head["params"])[0] == 2
    assert len(head["params"]) + len(body["params"]) == len(list(network.module.parameters()))


def test_statistics_of_a_trained_body_are_kept() -> None:
    from torch.nn import BatchNorm2d

    module = build_network(NetworkSpec(name="test_resnet"), classes=2).module
    module.train()
    freeze_batch_norm(module)
    norms = [part for part in module.modules() if isinstance(part, BatchNorm2d)]
    assert norms
    assert not any(part.training for part in norms)
    assert module.training


def test_the_recipe_refuses_nonsense() -> None:
    assert Recipe().changed({"epochs": 3, "rotate": None, "scale": 2}).scale == 2.0
    with pytest.raises(UnknownName, match="did you mean 'epochs'"):
        Recipe().changed({"epoch": 3})
    for bad in ({"epochs": 0}, {"epochs": "3"}, {"epochs": 2.5}, {"mirror": 1}, {"rotate": True}, {"scale": 0.5}):
        with pytest.raises(RequestError):
            Recipe().changed(bad)
    recipes = {
        default_recipe("small_cnn", trained=False),
        default_recipe("x", trained=False),
        default_recipe("x", trained=True),
    }
    assert len(recipes) == 3


@pytest.fixture
def sent(pictures: Path, tmp_path: Path) -> Path:
    """A payload of twelve of the pictures, with a name that wants quoting."""
    manifest = plada.open_images(pictures).manifest
    positions = np.arange(0, 24, 2)
    payload = Payload(
        positions,
        positions % 3,
        ("a", 'b,"b"', "c"),
        24,
        manifest.key_id,
        manifest.content_id,
        {"recipe": {"epochs": 1}},
    )
    payload.save(tmp_path / "x.plada")
    return tmp_path / "x.plada"


def test_training_by_a_payload(sent: Path, pictures: Path, tmp_path: Path) -> None:
    made = plada.train(sent, reference=pictures, student="small_cnn", out=tmp_path / "m.safetensors")
    assert (made.images, made.classes, made.epochs, made.accuracy, made.same_content) == (12, 3, 1, None, True)
    from safetensors import safe_open

    with safe_open(tmp_path / "m.safetensors", framework="np") as file:
        card = json.loads(file.metadata()["plada"])
        assert len(list(file.keys())) > 5
    assert card["classes"] == ["a", 'b,"b"', "c"]
    assert card["recipe"]["epochs"] == 1
    before = (tmp_path / "m.safetensors").read_bytes()
    plada.train(sent, reference=pictures, student="small_cnn", out=tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == before


def test_the_reference_is_found_where_it_is_known(sent: Path) -> None:
    assert plada.train(sent, student="small_cnn").images == 12


def test_the_callers_recipe_wins(sent: Path) -> None:
    assert plada.train(sent, student="small_cnn", recipe={"epochs": 2}).epochs == 2


def test_a_reference_nobody_knows(sent: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no collection known here .* --reference"):
        plada.train(sent, student="small_cnn", home=tmp_path / "elsewhere")


def test_other_images_are_refused(sent: Path, pictures: Path) -> None:
    with pytest.raises(ReferenceMismatch, match=r"labels a reference of 24 images .* here are 50"):
        plada.train(sent, reference="glyphs:count=50", student="small_cnn")
    for path in pictures.rglob("*.png"):
        Image.open(path).save(path, compress_level=0)
    with pytest.raises(ReferenceMismatch, match="--same-keys"):
        plada.train(sent, reference=pictures, student="small_cnn")
    made = plada.train(sent, reference=ReferenceCopy(location=pictures, same_keys=True), student="small_cnn")
    assert not made.same_content


def test_unreadable_images_are_left_out_or_all_is_lost(pictures: Path, tmp_path: Path) -> None:
    for path in list(pictures.rglob("*.png"))[:2]:
        path.write_bytes(b"broken")
    reference = plada.open_images(pictures)
    broken = [p for p in range(24) if reference.read(p) == b"broken"]
    ids = (reference.manifest.key_id, reference.manifest.content_id)
    mixed = Payload(np.arange(24), np.arange(24) % 2, ("a", "b"), 24, *ids)
    assert plada.train(mixed, reference=pictures, student="small_cnn", recipe={"epochs": 1}).images == 22
    lost = Payload(np.array(broken), np.array([0, 1]), ("a", "b"), 24, *ids)
    with pytest.raises(DataError, match="none of the 2 images"):
        plada.train(lost, reference=pictures, student="small_cnn")


def test_a_target_of_other_classes_is_refused(sent: Path, target_folder: Path) -> None:
    with pytest.raises(DataError, match=r"its 2 classes \(bright, dim\) are not the payload's 3"):
        plada.train(sent, student="small_cnn", target=target_folder)


def test_students_and_devices_that_are_not_there(sent: Path) -> None:
    with pytest.raises(UnknownName, match="unknown network 'resnet81'"):
        plada.train(sent, student="resnet81")
    with pytest.raises(RequestError, match="device 'cuda:63': not on this machine"):
        plada.train(sent, student="small_cnn", device="cuda:63")
    with pytest.raises(RequestError, match="starts from nothing"):
        plada.train(sent, student=NetworkSpec(name="small_cnn", pretrained=True))


def test_a_timm_student_trains(sent: Path) -> None:
    assert (
        plada.train(sent, student=NetworkSpec(name="test_resnet", image_size=32), recipe={"epochs": 1}).student
        == "test_resnet"
    )


def test_exports_come_back_as_they_went_out(sent: Path, pictures: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    payload, reference = plada.read_payload(sent), plada.open_images(pictures)
    wanted = [
        (p, str(reference.manifest.keys[p]), label, payload.classes[label])
        for p, label in zip(payload.positions.tolist(), payload.labels.tolist(), strict=True)
    ]
    plada.export(sent, to="csv", out=tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["position", "key", "label", "class"]
    assert [(int(p), key, int(label), name) for p, key, label, name in rows[1:]] == wanted
    plada.export(sent, to="parquet", out=tmp_path / "x.parquet")
    assert [tuple(row.values()) for row in pq.read_table(tmp_path / "x.parquet").to_pylist()] == wanted
    plada.export(sent, to="folder", out=tmp_path / "folder")
    for position, key, _, name in wanted:
        copy = next((tmp_path / "folder" / name).glob(f"{key.replace('/', '__')}.*"))
        assert copy.read_bytes() == reference.read(position)
        assert copy.suffix == (".png" if reference.read(position)[:4] == b"\x89PNG" else ".jpg")
    assert len(list((tmp_path / "folder").glob("*/*.*"))) == 12


def test_exports_that_cannot_be(sent: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'folder'"):
        plada.export(sent, to="folders", out=tmp_path / "x")
    with pytest.raises(RequestError, match="already there"):
        plada.export(sent, to="folder", out=pictures)
    manifest = plada.open_images(pictures).manifest
    slashed = Payload(np.array([1]), np.array([0]), ("../up",), 24, manifest.key_id, manifest.content_id)
    with pytest.raises(RequestError, match="cannot be a folder's name"):
        plada.export(slashed, to="folder", out=tmp_path / "y")
    assert not (tmp_path / "y").exists()
