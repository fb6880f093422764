"""open_clip encoders: nothing of what belongs to weights is guessed, and nothing is downloaded by itself."""

import importlib.util
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip is not installed", allow_module_level=True)

from plada.encoders import openclip
from plada.encoders.encoder import encoder_options, load_encoder, reload_encoder
from plada.encoders.spec import EncoderSpec
from plada.errors import DataError, MissingExtra, ReferenceMismatch, RequestError, UnknownName
from tests.encoders.test_encoder import noise, saved_of

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
OWN = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear", "resize_mode": "squash"}


def make_folder(folder: Path, config: dict[str, Any], how: dict[str, Any] | None = OWN) -> Path:
    """A local-dir with random weights, as open_clip's push to a hub lays it out."""
    import safetensors.torch
    import torch

    open_clip = openclip.import_open_clip()
    folder.mkdir()
    card = {"model_cfg": config, **({"preprocess_cfg": how} if how is not None else {})}
    (folder / "open_clip_config.json").write_text(json.dumps(card))
    torch.manual_seed(3)
    with openclip._quiet():
        module = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    safetensors.torch.save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP on disk. Tests copy what they change."""
    return make_folder(tmp_path_factory.mktemp("clip") / "tiny", CONFIG)


@pytest.fixture
def weights(folder: Path) -> Path:
    return folder / "open_clip_model.safetensors"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """The same tiny CLIP as an architecture that open_clip knows, with two tags that differ in QuickGELU alone."""
    openclip.import_open_clip()
    factory, pretrained = (importlib.import_module(f"open_clip.{part}") for part in ("factory", "pretrained"))
    plain = pretrained._pcfg(hf_hub="nobody/nothing/")
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", CONFIG)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-quickgelu", {**CONFIG, "quick_gelu": True})
    tags = {"plain": plain, "quick": {**plain, "quick_gelu": True}}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", tags)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-quickgelu", {"plain": plain})
    return "open_clip:tiny"


def quick_gelus(module: Any) -> int:
    return sum(type(part).__name__ == "QuickGELU" for part in module.modules())


def test_a_local_dir_gives_what_open_clip_gives(folder: Path) -> None:
    """Pixels to features, with open_clip's own transform on the other side."""
    import torch
    from PIL import Image

    encoder = load_encoder(f"open_clip:local-dir:{folder}")
    open_clip = openclip.import_open_clip()
    with openclip._quiet():
        module = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    how = open_clip.transform.PreprocessCfg(**module.visual.preprocess_cfg)
    transform = open_clip.transform.image_transform_v2(how, is_train=False)
    pictures = [Image.fromarray(pixels) for pixels in noise(4, 48)]
    with torch.inference_mode():
        theirs = module.encode_image(torch.stack([transform(picture) for picture in pictures]), normalize=True).numpy()
        words = module.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a cat", "two dogs"]), normalize=True).numpy()
    ours = encoder.encode(np.stack([encoder.view.of(picture) for picture in pictures]))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert encoder.encode_text is not None
    np.testing.assert_allclose(encoder.encode_text(["a cat", "two dogs"]), words, atol=1e-5)
    assert encoder.encode_text([]).shape == (0, 16)
    assert (encoder.view.mode, encoder.view.interpolation, encoder.view.size) == ("squash", "bilinear", 32)
    assert (encoder.config.mean, encoder.config.std) == ((0.5,) * 3, (0.25,) * 3)
    assert encoder.where == "cpu"


def test_the_network_is_in_eval_mode(tmp_path: Path) -> None:
    """open_clip hands it out in training mode, where this one leaves out half of the patches, by chance."""
    dropping = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "patch_dropout": 0.5}}
    name = f"open_clip:local-dir:{make_folder(tmp_path / 'dropping', dropping)}"
    assert openclip.build(EncoderSpec(name=name)).module.training
    encoder = load_encoder(name)
    assert np.array_equal(encoder.encode(noise(2, 32)), encoder.encode(noise(2, 32)))


def test_open_clip_may_be_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtra, match=r"an open_clip encoder needs open_clip, .* pip install '.*\[clip\]'"):
        load_encoder(f"open_clip:local-dir:{folder}")


def test_a_tag_decides_quick_gelu(tiny: str, weights: Path) -> None:
    """open_clip's own create_model leaves it off for ViT-B-32 with a file of OpenAI's weights, without a word."""
    quick, plain = (openclip.build(EncoderSpec(name=tiny, weights=weights, tag=tag)) for tag in ("quick", "plain"))
    assert (quick_gelus(quick.module), quick_gelus(plain.module)) == (3, 0)
    first, second = (load_encoder(EncoderSpec(name=f"{tiny}/{tag}", weights=weights)) for tag in ("quick", "plain"))
    assert (first.config.quick_gelu, second.config.quick_gelu) == (True, False)
    assert first.config.identity() != second.config.identity()
    assert abs(first.encode(noise(1, 32)) - second.encode(noise(1, 32))).max() > 1e-4


def test_openai_weights_of_a_real_architecture_have_quick_gelu() -> None:
    get_pretrained_cfg = openclip.import_open_clip().get_pretrained_cfg
    assert get_pretrained_cfg("ViT-B-32", "openai")["quick_gelu"] is True
    assert not get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k").get("quick_gelu", False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("/quick", {"model_args": {"quick_gelu": False}}, "tag 'quick' has quick_gelu True, --model-arg quick_gelu says False"),
        ("-quickgelu/plain", {}, "the architecture tiny-quickgelu has QuickGELU, tag 'plain' says without"),
        ("/quick", {"tag": "plain"}, "its name says tag 'quick', --tag says 'plain'"),
        ("", {}, r"differ in it\. Say with --tag which one it stands for \(plain, quick\), or say all of: --model-arg mean=\.\.\."),
        ("/plain", {"model_args": {"mean": 7}}, "expected three numbers"),
        ("/plain", {"model_args": {"widht": 7}}, "--model-arg widht is not known; open_clip encoders take mean"),
        ("/plain", {"image_size": 36}, "not a multiple of its patches of 8 pixels. Give 32 or 40"),
        ("/random", {}, "random weights; leave out --weights"),
        ("/plain", {"pretrained": True}, "--weights or --pretrained, not both"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(tiny: str, weights: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_encoder(EncoderSpec(name=tiny + name, weights=weights, **options))


def test_weights_of_a_real_architecture_need_their_tag(weights: Path) -> None:
    with pytest.raises(
        RequestError, match=r"ViT-B-32: a weights file does not contain .*datacomp_xl_s13b_b90k.*openai"
    ):
        load_encoder(EncoderSpec(name="open_clip:ViT-B-32", weights=weights))


def test_a_setting_that_tells_the_tags_apart_is_enough(tiny: str, weights: Path) -> None:
    """And so are all settings, of weights that no tag knows."""
    one = load_encoder(EncoderSpec(name=tiny, weights=weights, model_args={"quick_gelu": True}))
    assert one.config.quick_gelu
    every = {
        "mean": (0.1, 0.2, 0.3),
        "std": [1, 1, 1],
        "interpolation": "bilinear",
        "resize_mode": "shortest",
        "quick_gelu": False,
    }
    config = load_encoder(EncoderSpec(name=tiny, weights=weights, model_args=every)).config
    assert (config.mean, config.std, config.quick_gelu) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0), False)
    assert config.view == {"size": 32, "mode": "crop", "crop": 1.0, "interpolation": "bilinear"}


def test_random_weights_only_by_name(tiny: str, caplog: pytest.LogCaptureFixture) -> None:
    """open_clip makes them with a line in a log wherever weights lack."""
    import torch

    with pytest.raises(RequestError, match=r"give --weights FILE .* open_clip:tiny/random asks for them"):
        load_encoder(f"{tiny}/plain")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = load_encoder(f"{tiny}/random")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second = load_encoder(EncoderSpec(name=tiny, tag="random"))
    assert first.config == second.config
    assert np.array_equal(first.encode(noise(2, 32)), second.encode(noise(2, 32)))
    assert first.config.tag == "random"
    assert len(first.config.digest) == 64


def test_the_root_logger_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip logs by the module's functions, which would give an unconfigured logger a handler."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    load_encoder(f"open_clip:local-dir:{folder}")
    assert logging.getLogger().handlers == []


def test_a_local_dir_without_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """open_clip goes on with random ones, and takes a pickle where there is one."""
    bare = make_folder(tmp_path / "bare", CONFIG)
    name = f"open_clip:local-dir:{bare}"
    (bare / "open_clip_model.safetensors").rename(bare / "a.safetensors")
    load_encoder(name)
    (bare / "b.safetensors").write_bytes(b"")
    with pytest.raises(RequestError, match="several files of weights"):
        load_encoder(name)
    assert load_encoder(EncoderSpec(name=name, weights=bare / "a.safetensors")).config.digest
    for path in bare.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(RequestError, match="no weights in safetensors: expected open_clip_model"):
        load_encoder(name)
    (bare / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(RequestError, match=r"open_clip_pytorch_model\.bin is a pickle, which plada does not open"):
        load_encoder(name)
    with pytest.raises(DataError, match="opens no pickles"):
        load_encoder(EncoderSpec(name=name, weights=bare / "open_clip_pytorch_model.bin"))
    assert load_encoder(EncoderSpec(name=name, tag="random")).config.tag == "random"
    with pytest.raises(RequestError, match="has its weights beside"):
        load_encoder(EncoderSpec(name=name, tag="openai"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"preprocess_cfg": {}}, DataError, "no preprocess_cfg with mean and std"),
        ({"preprocess_cfg": {**OWN, "resize_mode": "longest"}}, RequestError, "prepared by 'longest'"),
        ({"preprocess_cfg": {**OWN, "size": 64}}, DataError, "says size 64, vision_cfg 32"),
        ({"model_cfg": {}}, DataError, "no model_cfg with embed_dim"),
        ({"model_cfg": {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": [32, 64]}}}, RequestError, "not squares"),
        ({"model_cfg": {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "depth": 3}}}, RequestError, "open_clip cannot make it"),
        ({"model_cfg": {**CONFIG, "embed_dim": 8}}, DataError, r"is \(.*16.*\), expected \(.*8.*\)"),
    ],
)  # fmt: skip
def test_a_local_dir_that_does_not_fit(
    folder: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    card = {"model_cfg": CONFIG, "preprocess_cfg": OWN, **change}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(card))
    (tmp_path / "model.safetensors").symlink_to(folder / "open_clip_model.safetensors")
    with pytest.raises(error, match=message):
        load_encoder(f"open_clip:local-dir:{tmp_path}")


def test_a_local_dir_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"open_clip_config\.json: cannot be read"):
        load_encoder(f"open_clip:local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        load_encoder(f"open_clip:local-dir:{tmp_path}")


@pytest.mark.parametrize("lost", ["text_projection", "transformer.", "visual.", ""])
def test_weights_with_a_part_missing(tiny: str, weights: Path, tmp_path: Path, lost: str) -> None:
    import safetensors.torch

    state = safetensors.torch.load_file(weights)
    kept = {name: tensor for name, tensor in state.items() if lost and not name.startswith(lost)}
    if lost == "transformer.":
        kept = {name: tensor for name, tensor in kept.items() if name.startswith("visual.")}
    if not lost:
        kept = {**state, "stray": state["text_projection"].clone()}
    safetensors.torch.save_file(kept, tmp_path / "w.safetensors")
    message = {"": "has the unknown stray", "transformer.": "lacks .* It has no text tower"}.get(
        lost, f"the file lacks {lost}"
    )
    with pytest.raises(DataError, match=message):
        load_encoder(EncoderSpec(name=f"{tiny}/plain", weights=tmp_path / "w.safetensors"))


def test_prefixes_of_a_training_run_are_read(tiny: str, weights: Path, tmp_path: Path) -> None:
    import safetensors.torch

    state = safetensors.torch.load_file(weights)
    safetensors.torch.save_file(
        {f"module.{name}": part.half() for name, part in state.items()}, tmp_path / "w.safetensors"
    )
    parts = [
        load_encoder(EncoderSpec(name=f"{tiny}/plain", weights=path)).encode(noise(3, 32))
        for path in (weights, tmp_path / "w.safetensors")
    ]
    np.testing.assert_allclose(parts[0], parts[1], atol=2e-3)


def test_another_image_size_changes_network_and_view(tiny: str, weights: Path) -> None:
    encoder = load_encoder(EncoderSpec(name=f"{tiny}/plain", weights=weights, image_size=64))
    assert (encoder.view.size, encoder.encode(noise(2, 64)).shape) == (64, (2, 16))
    tower = openclip.build(EncoderSpec(name=tiny, weights=weights, tag="plain", image_size=64))
    assert tower.module.state_dict()["visual.positional_embedding"].shape[0] == 65


def test_a_tower_of_timm_inside(tmp_path: Path) -> None:
    """As SigLIP is built; its tokenizer is on a hub, and images can be embedded without it."""
    vision = {
        "timm_model_name": "test_vit",
        "timm_model_pretrained": True,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 160,
    }
    words = {**CONFIG["text_cfg"], "hf_tokenizer_name": "nobody/no-tokenizer"}
    made = make_folder(
        tmp_path / "siglip",
        {"embed_dim": 16, "vision_cfg": {**vision, "timm_model_pretrained": False}, "text_cfg": words},
    )
    card = json.loads((made / "open_clip_config.json").read_text())
    card["model_cfg"]["vision_cfg"]["timm_model_pretrained"] = True  # open_clip must not go and fetch it
    (made / "open_clip_config.json").write_text(json.dumps(card))
    native = load_encoder(f"open_clip:local-dir:{made}")
    assert native.encode_text is None
    assert "tokenizer nobody/no-tokenizer" in native.text_note
    assert native.encode(noise(2, 160)).shape == (2, 16)
    smaller = load_encoder(EncoderSpec(name=f"open_clip:local-dir:{made}", image_size=64))
    assert smaller.encode(noise(2, 64)).shape == (2, 16)
    assert smaller.config.digest == native.config.digest


def test_a_text_tower_from_a_hub_is_left_out(folder: Path, tmp_path: Path) -> None:
    """It could not even be built without a network; the image tower is filled and accounted for all the same."""
    import safetensors.torch

    config = {**CONFIG, "text_cfg": {"hf_model_name": "nobody/roberta", "hf_tokenizer_name": "nobody/roberta"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": OWN}))
    state = safetensors.torch.load_file(folder / "open_clip_model.safetensors")
    image = {name: tensor for name, tensor in state.items() if name.startswith("visual.")}
    safetensors.torch.save_file({**image, "text.transformer.x": state["logit_scale"]}, tmp_path / "model.safetensors")
    encoder = load_encoder(f"open_clip:local-dir:{tmp_path}")
    whole = load_encoder(f"open_clip:local-dir:{folder}")
    np.testing.assert_allclose(encoder.encode(noise(2, 32)), whole.encode(noise(2, 32)), atol=1e-6)
    assert encoder.encode_text is None
    assert "Hugging Face model" in encoder.text_note
    image.pop("visual.proj")
    safetensors.torch.save_file(image, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"the file lacks visual\.proj"):
        load_encoder(f"open_clip:local-dir:{tmp_path}")


def test_a_text_is_not_cut(folder: Path) -> None:
    """open_clip keeps the first 77 tokens of a longer one, silently."""
    encoder = load_encoder(f"open_clip:local-dir:{folder}")
    assert encoder.encode_text is not None
    assert encoder.encode_text(["cat " * 75]).shape == (1, 16)
    with pytest.raises(RequestError, match=r"has 78 tokens, expected words that make at most 77"):
        encoder.encode_text(["fine", "cat " * 76])
    with pytest.raises(RequestError, match="the text is empty"):
        encoder.encode_text([" "])


def test_texts_are_unit_rows_whatever_their_batch(folder: Path) -> None:
    encoder = load_encoder(f"open_clip:local-dir:{folder}")
    assert encoder.encode_text is not None
    lines = ["a photo of a cat", "Zebra!", "ünïcode"]
    together = encoder.encode_text(lines)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(together, np.concatenate([encoder.encode_text([line]) for line in lines]), atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_index_reloads_its_local_dir_where_it_is_now(folder: Path, tmp_path: Path, precision: str) -> None:
    first = load_encoder(EncoderSpec(name=f"open_clip:local-dir:{folder}", precision=precision))
    info = saved_of(first)
    assert reload_encoder(info).config == first.config
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    again = reload_encoder(info, weights=moved)
    assert again.config.identity() == first.config.identity()
    assert again.config.weights != first.config.weights
    card = json.loads((moved / "open_clip_config.json").read_text())
    for part, key, value, said in (
        ("model_cfg", "quick_gelu", True, "quick_gelu False, now it has True"),
        ("preprocess_cfg", "mean", [0, 0, 0], r"mean \(0.5, 0.5, 0.5\), now it has \(0.0, 0.0, 0.0\)"),
        ("model_cfg", "note", 1, "architecture .*, now it has|cannot make it"),
    ):
        changed = {**card, part: {**card[part], key: value}}
        (moved / "open_clip_config.json").write_text(json.dumps(changed))
        with pytest.raises((ReferenceMismatch, RequestError), match=said):
            reload_encoder(info, weights=moved)


@pytest.mark.parametrize(
    "options",
    [
        {"tag": "quick"},
        {"tag": "random"},
        {"tag": "plain", "image_size": 64, "precision": "bf16"},
        {"model_args": {"quick_gelu": True, "mean": (0.48145466, 0.4578275, 0.40821073)}},
    ],
)
def test_the_options_of_a_command_line_load_the_same(tiny: str, weights: Path, options: dict[str, Any]) -> None:
    from tests.encoders.test_encoder import load_from_words

    given = {"weights": None if options.get("tag") == "random" else weights, **options}
    config = load_encoder(EncoderSpec(name=tiny, **given)).config
    assert load_from_words(encoder_options(config)).config == config


def test_the_options_of_a_local_dir(folder: Path) -> None:
    from tests.encoders.test_encoder import load_from_words

    for tag in (None, "random"):
        config = load_encoder(EncoderSpec(name=f"open_clip:local-dir:{folder}", tag=tag)).config
        assert load_from_words(encoder_options(config)).config == config


def test_no_network_says_what_to_do(tiny: str, monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    asked: list[tuple[str, str, bool]] = []

    def nothing(repository: str, file: str, *, revision: str | None, local_files_only: bool) -> str:
        asked.append((repository, file, local_files_only))
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nothing)
    with pytest.raises(RequestError, match="give --weights FILE"):
        load_encoder(f"{tiny}/plain")
    with pytest.raises(RequestError, match=r"which weights\? Give --tag, one of plain, quick"):
        load_encoder(EncoderSpec(name=tiny, pretrained=True))
    assert not asked
    with pytest.raises(
        RequestError, match=r"download open_clip_model\.safetensors of huggingface\.co/nobody/nothing, copy it"
    ):
        load_encoder(EncoderSpec(name=f"{tiny}/plain", pretrained=True))
    assert asked == [("nobody/nothing", "open_clip_model.safetensors", local) for local in (True, False)]

    def pickles(repository: str, file: str, *, revision: str | None, local_files_only: bool) -> str:
        raise LocalEntryNotFoundError("x") if local_files_only else EntryNotFoundError("404")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", pickles)
    with pytest.raises(RequestError, match=r"no weights in safetensors .* opens no pickles"):
        load_encoder(EncoderSpec(name=f"{tiny}/plain", pretrained=True))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(weights))
    config = load_encoder(EncoderSpec(name=f"{tiny}/quick", pretrained=True)).config
    assert config.quick_gelu
    assert config.weights == ""
    assert config.identity() == load_encoder(EncoderSpec(name=f"{tiny}/quick", weights=weights)).config.identity()
    assert encoder_options(config)[2] == "--pretrained"


def test_names_that_are_none() -> None:
    with pytest.raises(UnknownName, match="did you mean 'ViT-B-32'"):
        load_encoder(EncoderSpec(name="open_clip:ViT-B-23", tag="random"))
    with pytest.raises(UnknownName, match="did you mean 'openai'"):
        load_encoder(EncoderSpec(name="open_clip:ViT-B-32/opena", pretrained=True))
    assert "open_clip_config" not in str(asdict(EncoderSpec(name="x")))
