"""timm encoders: preprocessing comes from the weights' tag or is said, never guessed; every tensor is accounted for."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from plada.common.packages import import_timm
from plada.encoders import timm_encoder
from plada.encoders.encoder import encoder_options, load_encoder, reload_encoder
from plada.encoders.known import DEFAULT_ENCODER
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, ReferenceMismatch, RequestError, UnknownName
from plada.networks.network import keep_memory
from tests.encoders.test_encoder import TINY, load_from_words, noise, saved_of

VIT = "timm:test_vit"


def made(path: Path, architecture: str, **arguments: Any) -> Path:
    """A file of random weights of a timm architecture."""
    torch.manual_seed(0)
    safetensors.torch.save_file(import_timm().create_model(architecture, **arguments).state_dict(), path)
    return path


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return made(tmp_path / "vit.safetensors", "test_vit")


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    return made(tmp_path / "resnet.safetensors", "test_resnet")


@pytest.fixture
def two_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """test_resnet with a second tag: other images, another head."""
    from dataclasses import replace

    timm = import_timm()
    card = timm.models.get_pretrained_cfg("test_resnet")
    other = replace(card, tag="other", mean=(0.1, 0.2, 0.3), crop_pct=1.0, num_classes=10, hf_hub_id="nobody/nothing")
    from timm.models import _registry

    monkeypatch.setitem(_registry._model_pretrained_cfgs, "test_resnet.other", other)
    monkeypatch.setitem(_registry._model_with_tags, "test_resnet", ["test_resnet.r160_in1k", "test_resnet.other"])


def test_preprocessing_and_features_are_timms_own(resnet: Path) -> None:
    from PIL import Image

    timm = import_timm()
    encoder = load_encoder(EncoderSpec(name=TINY, weights=resnet))
    module = timm.create_model("test_resnet", checkpoint_path=str(resnet)).eval()
    module.reset_classifier(0)
    how = timm.data.resolve_model_data_config(module)
    transform = timm.data.create_transform(**how, is_training=False)
    pictures = [Image.fromarray(pixels) for pixels in noise(3, 200)]
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(module(torch.stack([transform(each) for each in pictures])), dim=1)
    ours = encoder.encode(np.stack([encoder.view.of(each) for each in pictures]))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)
    assert (encoder.view.size, encoder.view.crop, encoder.view.interpolation) == (160, 0.95, "bilinear")


def test_one_tag_settles_it_and_two_do_not(resnet: Path, two_tags: None) -> None:
    with pytest.raises(
        RequestError, match=r"Say with --tag which one it stands for \(other, r160_in1k\), or say all of"
    ):
        load_encoder(EncoderSpec(name=TINY, weights=resnet))
    encoder = load_encoder(EncoderSpec(name=f"{TINY}.r160_in1k", weights=resnet))
    assert (encoder.config.name, encoder.config.tag, encoder.config.mean[0]) == (f"{TINY}.r160_in1k", "r160_in1k", 0.5)
    assert load_encoder(EncoderSpec(name=TINY, tag="r160_in1k", weights=resnet)).config == encoder.config
    every = {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bicubic", "crop_mode": "squash"}
    config = load_encoder(EncoderSpec(name=TINY, weights=resnet, model_args=every, image_size=64)).config
    assert (config.mean, config.view) == (
        (0.0, 0.0, 0.0),
        {"size": 64, "mode": "squash", "crop": 1.0, "interpolation": "bicubic"},
    )
    with pytest.raises(RequestError, match="tag 'other' has mean"):
        load_encoder(EncoderSpec(name=TINY, tag="other", weights=resnet, model_args=every))
    with pytest.raises(UnknownName, match="did you mean 'other'"):
        load_encoder(EncoderSpec(name=TINY, tag="othr", weights=resnet))


def test_an_older_index_without_a_tag_still_opens(
    resnet: Path, two_tags: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made when nothing asked for one; what it recorded of its images is enough."""
    info = saved_of(load_encoder(EncoderSpec(name=TINY, tag="r160_in1k", weights=resnet, image_size=32)))
    older = {key: value for key, value in info.items() if key not in ("tag", "precision", "quick_gelu", "architecture")}
    encoder = reload_encoder({**older, "name": TINY})
    assert (encoder.config.mean, encoder.config.precision, encoder.config.tag) == ((0.5,) * 3, "fp32", "")


def test_an_older_index_has_the_identity_of_the_same_command_today(resnet: Path) -> None:
    from plada.encoders.encoder import config_from_json

    config = load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32)).config
    info = saved_of(load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32)))
    older = {key: value for key, value in info.items() if key not in ("tag", "precision", "quick_gelu", "architecture")}
    assert config_from_json(older).identity() == config.identity()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("mean", [0.1, 0.1, 0.1], r"mean \(0.1, 0.1, 0.1\), now it has \(0.5, 0.5, 0.5\)"),
        ("quick_gelu", True, "quick_gelu True, now it has False"),
        ("dimension", 7, "dimension 7, now it has"),
        ("digest", "0" * 64, "made with weights 000000000000, these are"),
    ],
)
def test_a_record_that_no_longer_holds_names_both(resnet: Path, field: str, value: Any, said: str) -> None:
    info = saved_of(load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32)))
    with pytest.raises(ReferenceMismatch, match=said):
        reload_encoder({**info, field: value})


def test_a_head_of_another_size_is_an_error(tmp_path: Path, two_tags: None) -> None:
    """timm would drop it, or its tag's, without a word."""
    seven = made(tmp_path / "seven.safetensors", "test_resnet", num_classes=7)
    ten = made(tmp_path / "ten.safetensors", "test_resnet", num_classes=10)
    with pytest.raises(DataError, match=r"its head has 7 outputs, test_resnet\.r160_in1k has 1000.*num_classes=7"):
        load_encoder(EncoderSpec(name=TINY, tag="r160_in1k", weights=seven))
    assert load_encoder(
        EncoderSpec(name=TINY, tag="r160_in1k", weights=seven, model_args={"num_classes": 7})
    ).config.digest
    assert load_encoder(EncoderSpec(name=TINY, tag="other", weights=ten)).config.tag == "other"
    with pytest.raises(DataError, match="its head has 10 outputs"):
        load_encoder(EncoderSpec(name=TINY, tag="r160_in1k", weights=ten))
    body = {key: value for key, value in safetensors.torch.load_file(ten).items() if not key.startswith("fc.")}
    safetensors.torch.save_file(body, tmp_path / "body.safetensors")
    with pytest.raises(DataError, match=r"the file lacks fc\.bias"):
        load_encoder(EncoderSpec(name=TINY, tag="other", weights=tmp_path / "body.safetensors"))
    assert load_encoder(
        EncoderSpec(name=TINY, tag="other", weights=tmp_path / "body.safetensors", model_args={"num_classes": 0})
    )


def test_padding_is_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(RequestError, match="networks named tf_ pad as TensorFlow does"):
        load_encoder(
            EncoderSpec(name="timm:tf_efficientnet_b0", weights=tmp_path / "w.safetensors", model_args={"pad_type": ""})
        )


def test_padding_changes_identity_and_embeddings(tmp_path: Path) -> None:
    weights = made(tmp_path / "w.safetensors", "test_efficientnet")
    plain = load_encoder(EncoderSpec(name="timm:test_efficientnet", weights=weights, image_size=64))
    same = load_encoder(
        EncoderSpec(name="timm:test_efficientnet", weights=weights, image_size=64, model_args={"pad_type": "same"})
    )
    assert plain.config.identity() != same.config.identity()
    assert abs(plain.encode(noise(1, 64)) - same.encode(noise(1, 64))).max() > 1e-4
    assert load_from_words(encoder_options(same.config)).config == same.config


def test_a_transformer_takes_another_size_as_timm_does_at_loading(vit: Path) -> None:
    timm = import_timm()
    encoder = load_encoder(EncoderSpec(name=VIT, weights=vit, image_size=96))
    state = safetensors.torch.load_file(vit)
    theirs = timm.create_model("test_vit", img_size=96).eval()
    theirs.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(state, theirs))
    tower = timm_encoder.build(EncoderSpec(name=VIT, weights=vit, image_size=96))
    torch.testing.assert_close(tower.module.state_dict()["pos_embed"], theirs.state_dict()["pos_embed"])
    assert encoder.encode(noise(2, 96)).shape == (2, encoder.config.dimension)
    assert encoder.view.size == 96
    with pytest.raises(
        RequestError, match=r"--image-size 100 is not a multiple of its patches of 16 pixels\. Give 96 or 112"
    ):
        load_encoder(EncoderSpec(name=VIT, weights=vit, image_size=100))
    assert reload_encoder(saved_of(encoder)).config == encoder.config


def test_a_network_that_cannot_take_another_size(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"it sees 224 pixels, not 64\. Leave out --image-size"):
        load_encoder(EncoderSpec(name="timm:mixer_s32_224", tag="random", image_size=64))


def test_a_dinov2_network_at_224(tmp_path: Path) -> None:
    """Its own size is 518; positions are interpolated."""
    encoder = load_encoder(
        EncoderSpec(name="timm:vit_small_patch14_dinov2", tag="random", image_size=224, model_args={"depth": 1})
    )
    assert (encoder.config.dimension, encoder.config.tag, encoder.view.size) == (384, "random", 224)


def test_random_weights_are_the_same_everywhere_and_marked(resnet: Path) -> None:
    torch.manual_seed(5)
    first = load_encoder(EncoderSpec(name=f"{TINY}.random", image_size=32))
    torch.manual_seed(6)
    second = load_encoder(EncoderSpec(name=TINY, tag="random", image_size=32))
    assert first.config == second.config
    assert np.array_equal(first.encode(noise(2, 32)), second.encode(noise(2, 32)))
    assert reload_encoder(saved_of(first)).config == first.config
    with pytest.raises(RequestError, match="asks for random weights; leave out --weights"):
        load_encoder(EncoderSpec(name=f"{TINY}.random", weights=resnet))
    with pytest.raises(RequestError, match=r"timm:test_resnet\.random asks for them"):
        load_encoder(TINY)


def test_the_same_random_weights_in_another_process() -> None:
    import subprocess
    import sys

    code = f"from plada.encoders.encoder import load_encoder; print(load_encoder('{TINY}.random').config.digest)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == load_encoder(f"{TINY}.random").config.digest


def test_no_network_says_what_to_do(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def nothing(*_: str, **__: Any) -> str:
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    with pytest.raises(
        RequestError, match=r"download model\.safetensors of huggingface\.co/timm/test_resnet\.r160_in1k, copy"
    ):
        load_encoder(EncoderSpec(name=TINY, pretrained=True))
    with pytest.raises(RequestError, match="published only as a pickle"):
        load_encoder(EncoderSpec(name="timm:gcvit_xxtiny", pretrained=True))

    def broken(*_: str, **__: Any) -> str:
        raise OSError("certificate")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(RequestError, match=r"cannot be downloaded \(certificate\)"):
        load_encoder(EncoderSpec(name=TINY, pretrained=True))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(resnet))
    config = load_encoder(EncoderSpec(name=TINY, pretrained=True)).config
    assert (config.name, config.tag, config.weights) == (f"{TINY}.r160_in1k", "r160_in1k", "")
    assert config.identity() == load_encoder(EncoderSpec(name=f"{TINY}.r160_in1k", weights=resnet)).config.identity()


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"w\.pth: not a safetensors file .* opens no pickles"):
        load_encoder(EncoderSpec(name=TINY, weights=tmp_path / "w.pth"))


def test_an_fp16_encoder_is_read_in_fp32_on_a_cpu(resnet: Path) -> None:
    half = load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32, precision="fp16"), device="cpu")
    saved = {**asdict(half.config), "self_check": half.self_check()}
    again = reload_encoder(saved, device="cpu")
    assert again.config.precision == "fp32"
    pixels = noise(3, 32)
    assert (half.encode(pixels) * again.encode(pixels)).sum(axis=1).min() > 0.999
    with pytest.raises(ReferenceMismatch, match="no longer gives the embeddings"):
        reload_encoder({**saved, "self_check": [-value for value in saved["self_check"]]}, device="cpu")


def test_precision_is_a_setting_and_no_identity(resnet: Path) -> None:
    full, half = (
        load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32, precision=name)) for name in (None, "bf16")
    )
    assert (full.config.precision, half.config.precision) == ("fp32", "bf16")
    assert full.config.identity() == half.config.identity()
    assert full.config.settings() != half.config.settings()
    vectors = half.encode(noise(3, 32))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(
        np.linalg.norm(vectors, axis=1), 1, rtol=1e-5
    )  # normalised in fp32, whatever came before
    with pytest.raises(RequestError, match="precision 'fp8': expected fp32, fp16, bf16"):
        load_encoder(EncoderSpec(name=TINY, weights=resnet, precision="fp8"))


def test_an_empty_batch(resnet: Path) -> None:
    encoder = load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32))
    assert encoder.encode(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, encoder.config.dimension)
    assert encoder.encode_text is None
    assert encoder.text_note == "timm networks have no text tower"


def test_compiling_without_a_compiler_is_said(resnet: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    torch._dynamo.reset()
    with pytest.raises(RequestError, match=r"torch\.compile fails here .* C\+\+ compiler .* leave out --compile"):
        load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32, compiled=True))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_args": {"mean": [1, 2]}}, "expected three numbers"),
        ({"model_args": {"crop_pct": 2}}, "crop_pct=2: expected a number above 0, at most 1"),
        ({"model_args": {"crop_mode": "border"}}, "crop_mode=border: expected center or squash"),
        ({"model_args": {"drop_rate": {1}}}, "model arguments must be plain values"),
        ({"image_size": 0}, "expected 1 or more pixels"),
        ({"tag": "no"}, "unknown tag of timm:test_resnet 'no'"),
    ],
)
def test_options_that_cannot_be(resnet: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_encoder(EncoderSpec(name=TINY, weights=resnet, **options))


@pytest.mark.parametrize("name", ["nfnet", "sapiens"])
def test_preprocessing_that_plada_does_not_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    timm = import_timm()
    card = timm.models.get_pretrained_cfg("test_resnet")
    changed = {"crop_mode": "squash", "crop_pct": 0.9} if name == "nfnet" else {"input_size": (3, 128, 96)}
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda *_: replace(card, **changed))
    with pytest.raises(RequestError, match=r"which plada does not do|not squares"):
        load_encoder(f"{TINY}.random")


def test_the_default_encoder_is_known_and_not_fetched() -> None:
    pytest.importorskip("timm")
    import importlib.util

    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    with pytest.raises(RequestError, match=r"give --weights FILE .*, or --pretrained to download"):
        load_encoder(DEFAULT_ENCODER)
    page = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
    assert f"`{DEFAULT_ENCODER}`, 512 dimensions" in page.read_text()


def test_an_encoder_on_a_cpu_keeps_its_memory(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("plada.encoders.encoder.keep_memory", lambda: asked.append(True))
    load_encoder(EncoderSpec(name=TINY, weights=resnet, image_size=32))
    assert asked == [True]


def test_memory_is_kept_where_glibc_takes_the_advice() -> None:
    import platform

    assert keep_memory() == (platform.system() == "Linux" and platform.libc_ver()[0] == "glibc")
