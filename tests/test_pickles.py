"""A pickle is planted at every way in, and none is run."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.checksums import seal, sealed_json
from plada.encoders.encoder import config_from_json, load_encoder, reload_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, PladaError, RequestError
from plada.networks.checkpoint import read_checkpoint
from plada.networks.model_args import PREPARATION, SHAPE_ARGUMENTS, refused_argument
from plada.networks.network import NetworkSpec, build_network, load_weights
from plada.sources.registry import open_target
from plada.trainer.model import load_model
from plada.trainer.model_file import save_model
from tests.conftest import picture

TIMM = "test_resnet"  # the smallest that timm has


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def bomb(tmp_path: Path, mark: Path) -> Path:
    """A pickle that shows that it was opened."""
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    return path


def model(path: Path, **changed: Any) -> Path:
    """A model file whose card is as a stranger wrote it; its weights are the network's own."""
    network = build_network(NetworkSpec(name=TIMM), classes=2)
    card = {
        "network": TIMM, "classes": ["a", "b"], "size": 32, "crop": 1.0, "interpolation": "bicubic", "mean": [0.5] * 3,
        "std": [0.5] * 3, "recipe": {}, "model_args": {}, **changed,
    }  # fmt: skip
    save_model(path, network.module.state_dict(), card)
    return path


def test_the_bomb_works(bomb: Path, mark: Path) -> None:
    """Otherwise nothing here would show anything."""
    with bomb.open("rb") as file:
        pickle.load(file)
    assert mark.exists()


def of_card(name: str) -> Callable[[Path, Path], None]:
    def way(bomb: Path, tmp_path: Path) -> None:
        values = {
            "checkpoint_path": str(bomb), "pretrained_cfg": {"file": str(bomb)}, "pretrained_cfg_overlay": {"file": str(bomb)},
            "pretrained": True, "cache_dir": str(tmp_path), "features_only": True, "pretrained_custom_load": True,
        }  # fmt: skip
        with pytest.raises(
            DataError, match=rf"m\.safetensors: its card: argument '{name}' is not one that shapes a network"
        ):
            load_model(model(tmp_path / "m.safetensors", model_args={name: values[name]}))

    return way


def of_index(bomb: Path, tmp_path: Path) -> None:
    plada.index("glyphs:count=40", name="mine", home=tmp_path / "h")
    path = tmp_path / "h" / "indexes" / "mine" / "index.json"
    info = json.loads(path.read_text())
    encoder = info["encoder"]
    encoder.update(name=f"timm:{TIMM}.random", tag="random", model_args={"checkpoint_path": str(bomb)})
    encoder.update(mean=[0.5] * 3, std=[0.5] * 3)
    path.write_text(json.dumps(sealed_json(info)))
    picture(0).save(tmp_path / "q.png")
    with pytest.raises(DataError, match="argument 'checkpoint_path'"):
        plada.search([tmp_path / "q.png"], index="mine", home=tmp_path / "h")
    with pytest.raises(DataError, match=r"in index\.json: argument 'checkpoint_path' is not one that shapes"):
        reload_encoder(encoder)


def of_command_line(bomb: Path, tmp_path: Path) -> None:
    arguments = {"checkpoint_path": str(bomb)}
    for pretrained in (False, True):
        with pytest.raises(RequestError, match="argument 'checkpoint_path' is not one that shapes a network"):
            build_network(NetworkSpec(name=TIMM, model_args=arguments, pretrained=pretrained), classes=2)
    with pytest.raises(RequestError, match="argument 'checkpoint_path' is not one that shapes a network"):
        load_encoder(EncoderSpec(name=f"timm:{TIMM}.random", model_args=arguments))


def of_network_name(bomb: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"architecture": TIMM, "model_args": {"checkpoint_path": str(bomb)}})
    )
    bomb.rename(folder / "pytorch_model.bin")
    for name in (
        f"local-dir:{folder}",
        f"timm:local-dir:{folder}",
        "hf-hub:nobody/nothing",
        f"{TIMM}.a/b:c",
        f"{TIMM}\n",
    ):
        with pytest.raises(PladaError, match="unknown network"):
            build_network(NetworkSpec(name=name, pretrained=True), classes=2)
        with pytest.raises(PladaError, match="unknown network"):
            load_model(model(tmp_path / "m.safetensors", network=name))


def of_weights(bomb: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a safetensors file"):
        build_network(NetworkSpec(name=TIMM, weights=bomb), classes=2)
    with pytest.raises(DataError, match="not a safetensors file"):
        load_encoder(EncoderSpec(name=f"timm:{TIMM}", tag="r160_in1k", weights=bomb))


def of_model_file(bomb: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a model that `plada train` wrote"):
        load_model(bomb)


def of_checkpoint(bomb: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable checkpoint"):
        read_checkpoint(bomb)
    import torch

    path = tmp_path / "zip.pth"
    torch.save({"plada": 1, "run": Bomb(tmp_path / "it-ran")}, path)
    for data in (
        path.read_bytes(),
        seal(path.read_bytes()),
        seal(bomb.read_bytes()),
    ):  # a stranger can make a checksum, too
        path.write_bytes(data)
        with pytest.raises(DataError, match="not a readable checkpoint"):
            read_checkpoint(path)


def of_table(bomb: Path, tmp_path: Path) -> None:
    from plada.labeler.custom_teachers import table_teacher

    np.save(tmp_path / "t.npy", np.array([Bomb(tmp_path / "it-ran")], object), allow_pickle=True)
    bomb.rename(tmp_path / "raw.npy")
    for name in ("t.npy", "raw.npy"):
        with pytest.raises(DataError, match="not an array of numbers"):
            table_teacher(tmp_path / name, ("a",), images=1, keys=lambda: ["k"], claims={})


def of_archive(bomb: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    objects = np.array([Bomb(tmp_path / "it-ran")], object)
    images = np.zeros((1, 28, 28), np.uint8)
    np.savez(
        root / "bloodmnist.npz", train_images=images, val_images=images, test_images=images, train_labels=objects,
        val_labels=objects, test_labels=objects,
    )  # fmt: skip
    with pytest.raises(DataError, match="cannot be read"):
        open_target(root, tmp_path / "h")


def of_cifar(bomb: Path, tmp_path: Path) -> None:
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (root / name).write_bytes(bomb.read_bytes())
    with pytest.raises(DataError, match=r"it names (posix|nt|os)\.mkdir, which is not run here"):
        open_target(root, tmp_path / "h")


def of_embedding_cache(bomb: Path, tmp_path: Path) -> None:
    from plada.labeler.embedding_cache import load_embeddings

    np.savez(
        tmp_path / "c.npz", digest=np.array("d"), vectors=np.array([Bomb(tmp_path / "it-ran")], object), readable=[True]
    )
    for path in (bomb, tmp_path / "c.npz"):
        assert load_embeddings(path, "d", images=1, dimension=1) is None


def of_listing(bomb: Path, tmp_path: Path) -> None:
    from plada.sources.formats import listing

    folder = tmp_path / "listing"
    folder.mkdir()
    for name in ("size", "part", "offset"):
        (folder / f"{name}.npy").write_bytes(bomb.read_bytes())
    import pyarrow as pa

    with (
        pa.OSFile(str(folder / "keys.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, pa.schema({"key": pa.string()})) as out,
    ):
        out.write_table(pa.table({"key": pa.array(["a"])}))
    (folder / "listing.json").write_text(json.dumps({"format": listing._FORMAT, "images": 1, "parts": []}))
    assert listing.load_listing(folder, lambda _: True) is None


def of_payload(bomb: Path, tmp_path: Path) -> None:
    with pytest.raises(PladaError):
        plada.read_payload(bomb)
    from plada.networks.recipe import Recipe

    with pytest.raises(PladaError, match="unknown recipe option 'model_args'"):
        Recipe().changed({"model_args": {"checkpoint_path": str(bomb)}})


def of_image(bomb: Path, tmp_path: Path) -> None:
    from plada.sources.decode import decode

    with pytest.raises(PladaError):
        decode(bomb.read_bytes())


def of_faiss(bomb: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    from blake3 import blake3

    from plada.indexer.ann import FILES, read_ann

    folder = tmp_path / "ann"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(bomb.read_bytes())
    digests = {name: blake3(bomb.read_bytes()).hexdigest() for name in FILES}
    info = {
        "format": 1, "kind": "ivf", "parameters": {"nprobe": 1, "candidates": 1}, "images": 1, "rows": 1, "dimension": 1,
        "made_of": {"x": 1}, "digests": digests,
    }  # fmt: skip
    (folder / "ann.json").write_text(json.dumps(sealed_json(info)))
    with pytest.raises(DataError, match="cannot be read by this FAISS"):
        read_ann(folder, {"x": 1})


def of_local_dir(bomb: Path, tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    evil = tmp_path / "hub"
    evil.mkdir()
    (evil / "config.json").write_text(json.dumps({"architecture": TIMM, "model_args": {"checkpoint_path": str(bomb)}}))
    words = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    for number, (vision, text, message) in enumerate(
        (
            ({"timm_model_name": f"local-dir:{evil}", "image_size": 32}, words, "is not a timm architecture"),
            ({"timm_model_name": "hf-hub:nobody/nothing", "image_size": 32}, words, "is not a timm architecture"),
            (
                {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
                {**words, "hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}},
                "tokenizer_kwargs trust_remote_code: expected",
            ),
        )
    ):
        folder = tmp_path / f"clip{number}"
        folder.mkdir()
        card = {
            "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
            "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
        }
        (folder / "open_clip_config.json").write_text(json.dumps(card))
        (folder / "open_clip_pytorch_model.bin").write_bytes(bomb.read_bytes())
        with pytest.raises(DataError, match=message):
            load_encoder(EncoderSpec(name=f"open_clip:local-dir:{folder}", tag="random"))


WAYS: dict[str, Callable[[Path, Path], None]] = {
    **{
        f"card {name}": of_card(name)
        for name in ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained", "cache_dir", "features_only")
    },
    "index": of_index, "command line": of_command_line, "name of a network": of_network_name, "weights": of_weights,
    "model": of_model_file, "checkpoint": of_checkpoint, "table of logits": of_table, "archive": of_archive,
    "cifar": of_cifar, "embeddings": of_embedding_cache, "listing": of_listing, "payload": of_payload, "image": of_image,
    "faiss": of_faiss, "local-dir": of_local_dir,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_planted_pickle_is_not_run(way: Callable[[Path, Path], None], bomb: Path, tmp_path: Path, mark: Path) -> None:
    way(bomb, tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "x"}, {"depth": 10**400}, {"depth": 1e300}, {"depth": float("nan")}, {"act_layer": "os.system(1)"},
        {"act_layer": "x" * 100}, {"depths": [1] * 1000}, {"depths": [[[[1]]]]}, {"depths": {"a": 1}}, ["depth"], None, "x",
    ],
)  # fmt: skip
def test_what_does_not_shape_a_network(arguments: Any) -> None:
    assert refused_argument(arguments)


def test_what_shapes_a_network() -> None:
    arguments = {
        "depths": [2, 2],
        "act_layer": "silu",
        "drop_rate": 0.1,
        "num_classes": 7,
        "qkv_bias": True,
        "pad_type": "",
    }
    assert refused_argument(arguments) == ""
    assert refused_argument({"mean": [0.5] * 3}) and not refused_argument({"mean": [0.5] * 3}, besides=PREPARATION)
    assert not SHAPE_ARGUMENTS & {
        "checkpoint_path",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "cache_dir",
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": "ab"}, {"classes": []}, {"classes": [1, 2]}, {"network": 7}, {"size": 10**9}, {"size": "32"}, {"crop": -1},
        {"mean": [0.5]}, {"std": "abc"}, {"interpolation": 3}, {"recipe": []},
    ],
)  # fmt: skip
def test_a_card_of_the_wrong_kind(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        load_model(model(tmp_path / "m.safetensors", **changed))


def test_an_index_with_arguments_of_the_wrong_kind() -> None:
    good = {
        "name": "gradients", "dimension": 8, "view": {"size": 32, "mode": "squash"}, "mean": [], "std": [], "weights": "",
        "digest": "", "model_args": {},
    }  # fmt: skip
    assert config_from_json(good).name == "gradients"
    for changed in ({"model_args": 3}, {"view": {"size": 10**9}}, {"view": {"evil": 1}}, {"view": 4}):
        with pytest.raises(DataError):
            config_from_json({**good, **changed})


def test_a_pickle_asks_for_no_memory(tmp_path: Path) -> None:
    """pickle in C sets aside what a number in the file says: 2**32 places here."""
    from plada.sources.formats.pickled import read_pickled

    for number, body in enumerate(
        (b"]r" + struct.pack("<I", 0xFFFFFFFF) + b".", b"B\xff\xff\xff\x7f.", b"\x8e" + b"\xff" * 8)
    ):
        path = tmp_path / str(number)
        path.write_bytes(b"\x80\x04" + body)
        with pytest.raises(DataError, match="not a pickle of plain arrays"):
            read_pickled(path)


def test_weights_are_loaded_by_plada_alone(tmp_path: Path) -> None:
    """A whole file of weights still is."""
    from plada.common.packages import import_timm

    path = model(tmp_path / "m.safetensors")
    assert load_weights(import_timm(), TIMM, path, {"num_classes": 2})
