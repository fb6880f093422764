"""What cannot be trained is refused before any image is read, with the option that is to blame."""

from pathlib import Path

import numpy as np
import pytest

import plada
from plada.common.units import MAX_SEED, check_seed
from plada.encoders.encoder import load_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import PladaError, RequestError
from plada.networks.data import ImagesInMemory
from plada.networks.loop import fit
from plada.networks.network import NetworkSpec, build_network, seed_everything
from plada.networks.recipe import Recipe
from plada.networks.trial import try_batch

VIT = "test_vit"  # 160 pixels


def refusal(spec: NetworkSpec, images: int = 10, processes: int = 1, **recipe: int) -> str:
    """What is said of training this network; empty where it works."""
    chosen = Recipe().changed(recipe)
    try:
        network = build_network(spec, classes=2, image_size=chosen.image_size)
        try_batch(network, chosen, images, processes=processes)
    except RequestError as err:
        return str(err)
    return ""


def small(size: int | None) -> NetworkSpec:
    return NetworkSpec(name="small_cnn", image_size=size)


def test_sizes_that_do_not_fit_name_the_option() -> None:
    assert "small_cnn: --image-size 1: expected 8 to " in refusal(small(1))
    assert "--image-size -4" in refusal(small(-4))
    assert "--image-size 100000" in refusal(small(100_000))
    assert "--image-size 1:" in refusal(small(None), image_size=1)
    assert not refusal(small(8))
    assert not refusal(NetworkSpec(name="test_resnet", image_size=8))
    for size, reason in ((161, "should be divisible by patch size"), (33, "should be divisible by patch size")):
        odd = refusal(NetworkSpec(name=VIT, image_size=size))
        assert odd.startswith(
            f"network test_vit: takes no images of {size} x {size} pixels (Input height ({size}) {reason}"
        )
    fixed = refusal(NetworkSpec(name="vit_tiny_patch16_224", image_size=225))
    assert fixed.startswith(
        "network vit_tiny_patch16_224: takes no images of 225 x 225 pixels (Input height (225) doesn't"
    )
    assert "Change --image-size" in odd
    assert not refusal(NetworkSpec(name=VIT, image_size=176, model_args={"img_size": 176}))
    assert not refusal(NetworkSpec(name=VIT))


def test_a_size_is_blamed_only_where_it_is_another_than_the_networks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> None:
        def run(*_: object) -> None:
            raise error

        monkeypatch.setattr("plada.networks.trial._forward", run)

    vit = NetworkSpec(name=VIT)
    fail(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))
    own = refusal(vit)
    assert own.startswith(
        "network test_vit: cannot be run (mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)). Check"
    )
    assert "size" not in own
    other = refusal(NetworkSpec(name=VIT, image_size=176, model_args={"img_size": 176}))
    assert "takes no images of 176 x 176 pixels (mat1" in other
    for error in (RuntimeError("CUDA error: no kernel image is available"), MemoryError()):
        fail(error)
        with pytest.raises(type(error)):
            refusal(vit)


def test_channels_that_no_image_has() -> None:
    for value in (1, 4):
        assert f"in_chans={value}: images have 3 channels" in refusal(
            NetworkSpec(name="test_resnet", model_args={"in_chans": value})
        )
    assert not refusal(NetworkSpec(name="test_resnet", image_size=32, model_args={"in_chans": 3}))
    with pytest.raises(RequestError, match="in_chans=1: images have 3 channels"):
        load_encoder(EncoderSpec(name="timm:test_resnet", tag="random", model_args={"in_chans": 1}))


def test_batch_norms_do_not_learn_from_one_image() -> None:
    tiny = NetworkSpec(name="test_resnet", image_size=16)  # one number a channel is left at its end
    for said in (refusal(tiny, batch_size=1), refusal(tiny, images=1), refusal(tiny, processes=10)):
        assert "its batch norms cannot learn from one image at a time" in said
        assert "Raise --recipe batch_size" in said
    assert not refusal(tiny, batch_size=2)
    assert not refusal(NetworkSpec(name=VIT), batch_size=1)
    assert not refusal(small(16), images=1)


def test_a_trial_changes_nothing() -> None:
    import torch

    seed_everything(3)
    network = build_network(small(16), classes=2)
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    generator = torch.get_rng_state()
    training = network.module.training
    try_batch(network, Recipe(), 10)
    assert torch.equal(torch.get_rng_state(), generator)
    assert network.module.training == training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.module.state_dict().items())


def test_an_image_that_is_left_alone_is_said_in_the_loop() -> None:
    network = build_network(NetworkSpec(name="test_resnet", image_size=16), classes=2)
    images = ImagesInMemory(np.zeros((1, 16, 16, 3), np.uint8), np.zeros(1, np.int64))
    with pytest.raises(RequestError, match="cannot learn from one image at a time, and a batch has 1"):
        fit(network, images, recipe=Recipe(), seed=0)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, True])
def test_seeds_are_bounded(seed: int, tmp_path: Path) -> None:
    assert check_seed(MAX_SEED) == MAX_SEED
    with pytest.raises(RequestError, match=f"expected a whole number from 0 to {MAX_SEED}"):
        plada.select("none", target="digits", seed=seed)
    with pytest.raises(RequestError, match="seed"):
        plada.verify("glyphs:count=3", seed=seed)
    with pytest.raises(PladaError, match="seed"):
        plada.train("x.plada", seed=seed, out=tmp_path / "x")
