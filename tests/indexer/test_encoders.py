"""Encoders: what is recorded is what must come back, and nothing has random weights by accident."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from plada.errors import DataError, ReferenceMismatch, RequestError, UnknownName
from plada.indexer import gradients
from plada.indexer.build import resume_command
from plada.indexer.embed import to_half
from plada.indexer.encoders import load_encoder, reload_encoder
from plada.networks import build_network
from plada.sources.folder import open_folder

TINY = "timm:test_resnet"  # timm's own test network: half a million parameters


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of timm's test network, as a person would have them in a file."""
    import safetensors.torch
    import torch

    from plada.networks import import_timm

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
    encoder = load_encoder(TINY, weights=weights, image_size=32)
    vectors = encoder.encode(noise(5, 32))
    assert vectors.shape == (5, encoder.config.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert encoder.view.size == 32
    assert len(encoder.config.digest) == 64


def saved(weights: Path) -> dict[str, object]:
    """What index.json holds, after a way through JSON."""
    import json
    from dataclasses import asdict

    encoder = load_encoder(TINY, weights=weights, image_size=32)
    loaded: dict[str, object] = json.loads(json.dumps({**asdict(encoder.config), "self_check": encoder.self_check()}))
    return loaded


def test_an_encoder_is_reloaded_as_it_was(weights: Path) -> None:
    first, again = load_encoder(TINY, weights=weights, image_size=32), reload_encoder(saved(weights))
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
    check = info["self_check"]
    assert isinstance(check, list)
    with pytest.raises(ReferenceMismatch, match="no longer gives the embeddings"):
        reload_encoder({**info, "self_check": check[::-1]})


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
        load_encoder(name, **options)  # type: ignore[arg-type]


def test_weights_of_another_network(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown network 'timm:test_resnett'"):
        load_encoder("timm:test_resnett", weights=weights)
    with pytest.raises(DataError, match=r"not the weights of test_vit with {} \(the file (lacks|has)"):
        load_encoder("timm:test_vit", weights=weights)
    with pytest.raises(RequestError, match="Check --model-arg"):
        load_encoder(TINY, weights=weights, model_args={"no_such_argument": 1})
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_encoder(TINY, weights=tmp_path / "text.safetensors")


def test_a_head_of_another_size_is_loaded_whole_then_replaced(tmp_path: Path, weights: Path) -> None:
    """timm drops a head of another size without a word; here body and head are both accounted for."""
    import safetensors.torch
    import torch

    from plada.networks import import_timm

    ten = import_timm().create_model("test_resnet", num_classes=10)
    safetensors.torch.save_file(ten.state_dict(), tmp_path / "ten.safetensors")
    network = build_network("test_resnet", classes=4, weights=tmp_path / "ten.safetensors")
    assert network.trained
    stem = next(name for name in ten.state_dict() if name.endswith("weight"))
    assert torch.equal(network.module.state_dict()[stem], ten.state_dict()[stem])
    assert network.module.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_a_device_that_is_not_there(weights: Path) -> None:
    with pytest.raises(RequestError, match="device 'cuda:63': not on this machine"):
        load_encoder(TINY, weights=weights, device="cuda:63")


@pytest.mark.parametrize("size", [None, 32])
def test_the_command_to_resume_loads_the_same_encoder(
    weights: Path, pictures: Path, tmp_path: Path, size: int | None
) -> None:
    """Parsed as the shell would: another encoder would make the build begin anew."""
    config = load_encoder(TINY, weights=weights, image_size=size).config
    words = shlex.split(resume_command(open_folder(pictures), "p", config, tmp_path / "my home"))
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["plada", "index", str(pictures)]
    assert (options["--name"], options["--home"]) == ("p", str(tmp_path / "my home"))
    side = int(options["--image-size"]) if "--image-size" in options else None
    again = load_encoder(options["--encoder"], weights=options["--weights"], image_size=side)
    assert again.config.identity() == config.identity()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 7.0])
def test_vectors_that_would_never_be_found_are_refused(bad: float) -> None:
    vectors = np.full((2, 4), 0.5, np.float32)
    vectors[1] = bad
    with pytest.raises(DataError, match="not finite or not of length one"):
        to_half(vectors, "x")
