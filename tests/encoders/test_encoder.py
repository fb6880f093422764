"""Encoders: what is recorded is what must come back, and nothing has random weights by accident."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plada.commands.console.options import pairs
from plada.encoders import gradients
from plada.encoders.encoder import Encoder, encoder_options, load_encoder, reload_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, ReferenceMismatch, RequestError, ResourceError, UnknownName
from plada.indexer.embed import to_half
from plada.networks.network import NetworkSpec, build_network

TINY = "timm:test_resnet"  # timm's own test network: half a million parameters


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of timm's test network, as a person would have them in a file."""
    import safetensors.torch
    import torch

    from plada.common.packages import import_timm

    torch.manual_seed(0)
    module = import_timm().create_model("test_resnet")
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def noise(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (n, size, size, 3), dtype=np.uint8)


def test_gradients_are_unit_vectors_whatever_the_picture() -> None:
    flat = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (0, 128, 255)])
    vectors = gradients.embed(np.concatenate([noise(20, 32), flat]))
    assert vectors.shape == (23, gradients.DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert np.array_equal(vectors[20], vectors[22])
    to_half(vectors, "gradients")


def test_gradients_tell_directions_apart_and_sharpness_not() -> None:
    from PIL import Image

    edge = Image.fromarray(np.repeat(np.repeat(np.array([[0, 255]], np.uint8), 16, 1), 32, 0))
    soft = edge.resize((8, 8), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BICUBIC)
    down, up = edge.rotate(90), edge.rotate(270)
    seen = gradients.embed(np.stack([np.asarray(image.convert("RGB")) for image in (edge, soft, down, up)]))
    assert seen[0] @ seen[1] > 0.95
    assert seen[0] @ seen[2] < 0.5
    assert seen[2] @ seen[3] < 0.5


def test_a_vector_does_not_depend_on_its_batch() -> None:
    images = noise(9, 32)
    one_by_one = np.concatenate([gradients.embed(image[None]) for image in images])
    np.testing.assert_allclose(gradients.embed(images), one_by_one, atol=1e-6)


def test_timm_with_weights(weights: Path) -> None:
    encoder = load_encoder(EncoderSpec(name=TINY, weights=weights, image_size=32))
    vectors = encoder.encode(noise(5, 32))
    assert vectors.shape == (5, encoder.config.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert encoder.view.size == 32
    assert len(encoder.config.digest) == 64


def saved_of(encoder: Encoder) -> dict[str, Any]:
    """What index.json holds, after a way through JSON."""
    loaded: dict[str, Any] = json.loads(json.dumps({**asdict(encoder.config), "self_check": encoder.self_check()}))
    return loaded


def saved(weights: Path) -> dict[str, Any]:
    return saved_of(load_encoder(EncoderSpec(name=TINY, weights=weights, image_size=32)))


def load_from_words(words: list[str]) -> Encoder:
    """As the command line reads the words of encoder_options, through a shell."""
    words = shlex.split(shlex.join(words))
    given: dict[str, Any] = {"model_args": []}
    while words:
        word = words.pop(0)
        if word == "--pretrained":
            given["pretrained"] = True
        elif word == "--model-arg":
            given["model_args"].append(words.pop(0))
        else:
            given[word.removeprefix("--").replace("-", "_")] = words.pop(0)
    size = given.pop("image_size", None)
    given["model_args"], given["image_size"] = pairs(given["model_args"]), size and int(size)
    return load_encoder(EncoderSpec(name=given.pop("encoder"), **given))


def test_an_encoder_is_reloaded_as_it_was(weights: Path) -> None:
    first, again = load_encoder(EncoderSpec(name=TINY, weights=weights, image_size=32)), reload_encoder(saved(weights))
    assert again.config == first.config
    np.testing.assert_allclose(again.encode(noise(3, 32)), first.encode(noise(3, 32)), atol=1e-6)


def test_other_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    import safetensors.torch

    info = saved(weights)
    state = safetensors.torch.load_file(weights)
    state[next(name for name in state if name.endswith("weight"))].mul_(2)
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ReferenceMismatch, match="the index was made with weights"):
        reload_encoder(info, weights=tmp_path / "other.safetensors")
    moved = weights.rename(tmp_path / "moved.safetensors")
    with pytest.raises(RequestError, match=r"w\.safetensors: cannot be read"):
        reload_encoder(info)
    assert reload_encoder(info, weights=moved).config.digest == info["digest"]


def test_an_encoder_that_answers_differently_is_refused(weights: Path) -> None:
    info = saved(weights)
    for check in (info["self_check"][::-1], [float("nan")] * len(info["self_check"]), info["self_check"][:-1]):
        with pytest.raises(ReferenceMismatch, match="no longer gives the embeddings"):
            reload_encoder({**info, "self_check": check})


def test_a_damaged_record_is_said() -> None:
    with pytest.raises(DataError, match="cannot be understood"):
        reload_encoder({"name": "gradients"})


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("gradient", {}, UnknownName, "did you mean 'gradients'"),
        ("clip:ViT", {}, UnknownName, "timm:ARCH is any timm network"),
        ("gradients", {"image_size": 64}, RequestError, "no weights and no options"),
        (TINY, {}, RequestError, "give --weights FILE"),
        ("timm:mobilnetv2_100", {"weights": "w"}, RequestError, "cannot be read"),
        (TINY, {"weights": "none.safetensors"}, RequestError, "cannot be read"),
    ],
)
def test_requests_that_cannot_be_met(
    name: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_encoder(EncoderSpec(name=name, **options))  # type: ignore[arg-type]


def test_weights_of_another_network(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown network 'timm:test_resnett'"):
        load_encoder(EncoderSpec(name="timm:test_resnett", weights=weights))
    with pytest.raises(DataError, match=r"not the weights of test_vit with {} \(the file (lacks|has)"):
        load_encoder(EncoderSpec(name="timm:test_vit", weights=weights))
    with pytest.raises(RequestError, match="Check --model-arg"):
        load_encoder(EncoderSpec(name=TINY, weights=weights, model_args={"embed_dim": 1}))
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_encoder(EncoderSpec(name=TINY, weights=tmp_path / "text.safetensors"))


def test_a_head_of_another_size_is_loaded_whole_then_replaced(tmp_path: Path, weights: Path) -> None:
    """timm drops a head of another size without a word; here body and head are both accounted for."""
    import safetensors.torch
    import torch

    from plada.common.packages import import_timm

    ten = import_timm().create_model("test_resnet", num_classes=10)
    safetensors.torch.save_file(ten.state_dict(), tmp_path / "ten.safetensors")
    network = build_network(NetworkSpec(name="test_resnet", weights=tmp_path / "ten.safetensors"), classes=4)
    assert network.trained
    stem = next(name for name in ten.state_dict() if name.endswith("weight"))
    assert torch.equal(network.module.state_dict()[stem], ten.state_dict()[stem])
    assert network.module.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_a_device_that_is_not_there(weights: Path) -> None:
    with pytest.raises(RequestError, match="device 'cuda:63': not on this machine"):
        load_encoder(EncoderSpec(name=TINY, weights=weights), device="cuda:63")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("CUDA error: no kernel image is available\nmore"), ResourceError, "device cpu does not run it (CUDA error: no kernel image is available). `plada doctor`"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), ResourceError, "no memory for it on this device (cuDNN error"),
        (RuntimeError("CUDA error: out of memory"), ResourceError, "no memory for it"),
        (TypeError("forward() takes 1 argument"), RequestError, "cannot embed a picture here (forward() takes 1 argument). Check --model-arg"),
    ],
)  # fmt: skip
def test_an_encoder_that_fails_says_the_true_reason(
    weights: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("plada.encoders.encoder.to_floats", fail)
    with pytest.raises(kind) as refused:
        load_encoder(EncoderSpec(name=TINY, weights=weights))
    assert words in str(refused.value)
    assert "--image-size" not in str(refused.value)
    if kind is RequestError:
        with pytest.raises(RequestError, match=r"does not take pictures of 64 pixels .*Give another --image-size"):
            load_encoder(EncoderSpec(name=TINY, weights=weights, image_size=64))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image_size": 32},
        {"precision": "bf16"},
        {"tag": "r160_in1k"},
        {"model_args": {"mean": (0.5, 0.5, 0.5), "drop_rate": 0.1, "act_layer": "silu"}},
        {"model_args": {"crop_pct": 0.5}, "image_size": 48},
        {"tag": "random", "weights": None},
    ],
)
def test_the_options_of_a_command_line_load_the_same_encoder(weights: Path, options: dict[str, Any]) -> None:
    """Parsed as the shell would: another encoder would make a build begin anew."""
    config = load_encoder(EncoderSpec(name=TINY, **{"weights": weights, **options})).config
    assert load_from_words(encoder_options(config)).config == config


def test_the_options_of_gradients() -> None:
    assert encoder_options(load_encoder("gradients").config) == ["--encoder", "gradients"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 7.0])
def test_vectors_that_would_never_be_found_are_refused(bad: float) -> None:
    vectors = np.full((2, 4), 0.5, np.float32)
    vectors[1] = bad
    with pytest.raises(DataError, match="not finite or not of length one"):
        to_half(vectors, "x")
