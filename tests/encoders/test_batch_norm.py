"""Folding batch norms changes the speed of a network, not what it says."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from plada.encoders import encoder as encoders
from plada.encoders.batch_norm import fold_batch_norms
from plada.encoders.encoder import load_encoder
from plada.encoders.spec import EncoderSpec


def trained(module: nn.Module) -> nn.Module:
    """A module whose batch norms have statistics and weights as training leaves them."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low in ((part.running_var, 0.5), (part.weight.data, 0.5), (part.running_mean, -0.5)):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18", "test_efficientnet"])
def test_the_features_stay_and_the_norms_go(name: str) -> None:
    from plada.common.packages import import_timm

    module: Any = trained(import_timm().create_model(name))
    plain, before = copy.deepcopy(module), norms(module)
    assert fold_batch_norms(module, module.forward_features, 64) == before > 0
    assert norms(module) == 0
    pictures = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted, found = plain.forward_features(pictures), module.forward_features(pictures)
    assert (wanted - found).abs().max() <= 1e-4 * wanted.abs().max()
    assert not torch.equal(wanted, found)


class Crossed(nn.Module):
    """Registers a convolution before a batch norm that runs before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.convolution(self.norm(images))
        return found


def test_a_pair_that_is_none_is_left_alone() -> None:
    module = trained(Crossed())
    pictures = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    wanted, parts = module(pictures), list(module.children())
    assert fold_batch_norms(module, module, 16) == 0
    assert list(module.children()) == parts
    assert torch.equal(module(pictures), wanted)


def test_nothing_to_fold() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert fold_batch_norms(module, module, 8) == 0


def test_an_encoder_on_the_cpu_is_folded_and_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    from plada.common.packages import import_timm

    module = trained(import_timm().create_model("test_resnet"))
    safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)

    def embedded() -> np.ndarray:
        encoder = load_encoder(
            EncoderSpec(name="timm:test_resnet", weights=tmp_path / "w.safetensors", image_size=32), device="cpu"
        )
        return encoder.encode(images)

    folded: list[int] = []

    def fold(*arguments: object) -> int:
        folded.append(fold_batch_norms(*arguments))  # type: ignore[arg-type]
        return folded[-1]

    monkeypatch.setattr(encoders, "fold_batch_norms", fold)
    found = embedded()
    assert folded[0] > 0
    monkeypatch.setattr(encoders, "fold_batch_norms", lambda *_: 0)
    np.testing.assert_allclose(found, embedded(), atol=1e-5)
