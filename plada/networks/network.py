"""Networks: plada's own small one and everything that timm has.

They are built here alone, so that weights are never random by accident and torchvision always loads.
"""

import ctypes
import difflib
import hashlib
import platform
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from plada.common.arrays import U8
from plada.common.failures import first_line
from plada.common.packages import import_timm, require
from plada.errors import DataError, RequestError, UnknownName
from plada.networks.device import send
from plada.networks.model_args import refused_argument
from plada.sources.decode import MAX_SIDE, View

if TYPE_CHECKING:
    import torch
    from torch import nn

SMALL_CNN = "small_cnn"
MIN_SIDE = 8  # pixels; below it the first layers leave nothing
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_.-]+)?", re.ASCII)
_KEPT = 1 << 30  # bytes; blocks below it stay in the heap


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network by name, with the weights that it starts from.

    Attributes:
        name: `small_cnn`, any timm architecture, the name of an encoder, or `linear`.
        weights: A safetensors file to start from; None starts from random weights, or from what `pretrained` gives.
        pretrained: Download the weights of the network's tag, by timm or open_clip.
        model_args: Arguments of the architecture, such as {"pad_type": "same"}.
        image_size: Side of the square that the network sees, in pixels; None stands for the size of the weights.

    Examples:
        >>> import plada
        >>> plada.NetworkSpec(name="resnet18", image_size=96).trained
        False
    """

    name: str
    weights: str | Path | None = None
    pretrained: bool = False
    model_args: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None

    @property
    def trained(self) -> bool:
        """Whether it starts from trained weights."""
        return bool(self.weights) or self.pretrained


def as_spec(network: str | NetworkSpec) -> NetworkSpec:
    """A network that may be given by its name alone."""
    return network if isinstance(network, NetworkSpec) else NetworkSpec(name=network)


@dataclass(frozen=True, slots=True)
class Network:
    """A module that takes normalised RGB [n, 3, size, size] and gives logits [n, classes].

    `size`, `crop`, `interpolation`, `mean`, `std` are the preprocessing that belongs to the weights; `trained` says
    whether the body was loaded from weights, and `wanted_size` is the size that these were trained at (0: not known).
    """

    name: str
    module: "nn.Module"
    size: int
    crop: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained: bool
    wanted_size: int = 0


def build_network(spec: NetworkSpec, *, classes: int, image_size: int = 0) -> Network:
    """A network with a fresh head of `classes` outputs on a random, given (`weights`) or downloaded (`pretrained`) body.

    `image_size` holds where the spec names none; 0 stands for the size of the weights.

    Raises:
        UnknownName: neither small_cnn nor a timm architecture.
        RequestError: options that do not fit the network.
        DataError: weights of another architecture.
    """
    name, size = spec.name, spec.image_size or image_size
    if size and not MIN_SIDE <= size <= MAX_SIDE:
        raise RequestError(f"network {name}: --image-size {size}: expected {MIN_SIDE} to {MAX_SIDE} pixels")
    if name == SMALL_CNN:
        if spec.trained or spec.model_args:
            raise RequestError(f"{name} starts from nothing: it takes no weights and no model arguments")
        require("torch", extra="client", purpose="a network")
        from plada.networks.small_cnn import SmallCnn  # its class statement needs torch

        return Network(name, SmallCnn(classes), size or 16, 1.0, "bicubic", (0.5,) * 3, (0.25,) * 3, trained=False)
    timm = import_timm()
    architecture = name.removeprefix("timm:")
    if not is_architecture(timm, architecture):
        raise UnknownName("network", name, near_networks(timm, architecture), hint="Any timm architecture will do")
    arguments = checked_arguments(architecture, spec.model_args)
    if spec.weights is not None:
        module = load_weights(timm, architecture, Path(spec.weights), arguments)
        module.reset_classifier(classes)  # type: ignore[operator]
    else:
        try:
            module = timm.create_model(architecture, pretrained=spec.pretrained, num_classes=classes, **arguments)
        except (TypeError, ValueError, AssertionError, RuntimeError, OSError) as err:
            raise RequestError(f"network {name}: cannot be made ({first_line(err)})") from err
    config = timm.data.resolve_model_data_config(module)
    return Network(
        name=name,
        module=module,
        size=size or int(config["input_size"][-1]),
        crop=1.0 if size else float(config["crop_pct"]),
        interpolation=str(config["interpolation"]),
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
        trained=spec.trained,
        wanted_size=int(config["input_size"][-1]) if spec.trained else 0,
    )


def size_note(name: str, size: int, wanted: int) -> str:
    """What to say of a network that sees images of at most half the size that its weights want; empty of others."""
    if 2 * size > wanted:
        return ""
    return (
        f"{name} sees images of {size} px, and its weights were trained at {wanted}: features are worse for it, also "
        "where the images themselves are small. Give a larger --image-size"
    )


def start_note(spec: NetworkSpec) -> str:
    """What to say of a network that starts from random weights; empty of others, and of the one that is made for it."""
    if spec.trained or spec.name == SMALL_CNN:
        return ""
    return (
        f"{spec.name} starts from random weights: it knows nothing yet, and a payload seldom has images enough to teach it. Give "
        f"--pretrained, or --weights FILE. For pictures of 8 to 32 px there is {SMALL_CNN}, which needs none"
    )


def load_weights(
    timm: Any, architecture: str, weights: Path, arguments: Mapping[str, Any], *, heads: Container[int] | None = None
) -> "nn.Module":
    """A timm module filled from a safetensors file, every tensor of both sides accounted for, head included.

    The head may have any number of outputs, or one of `heads`.

    Raises:
        DataError: not a safetensors file, tensors of another architecture (the first is named), another head.
        RequestError: arguments that the architecture does not take, no such file.
    """
    state = read_safetensors(weights)
    plain = create_network(timm, architecture, arguments)
    names = plain.pretrained_cfg.get("classifier")
    head = names if isinstance(names, str) or not names else names[0]
    outputs = state.get(f"{head}.weight")
    module: nn.Module = plain
    if outputs is not None and outputs.shape[0] != plain.num_classes:
        count = int(outputs.shape[0])
        if "num_classes" in arguments or (heads is not None and count not in heads):
            raise DataError(
                f"{weights}: its head has {count} outputs, {architecture} has {plain.num_classes}: these are other "
                f"weights than said. If they are right, say so with --model-arg num_classes={count}"
            )
        module = create_network(timm, architecture, {**arguments, "num_classes": count})
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as err:
        raise DataError(
            f"{weights}: not the weights of {architecture} with {dict(arguments)} ({mismatch(module.state_dict(), state)})"
        ) from err
    return module


def create_network(timm: Any, architecture: str, arguments: Mapping[str, Any]) -> Any:
    """A timm module with random weights. Raises RequestError: arguments that the architecture does not take, or that do
    not shape a network."""
    try:
        return timm.create_model(architecture, **checked_arguments(architecture, arguments))
    except (TypeError, ValueError, AssertionError, RuntimeError) as err:
        raise RequestError(f"network {architecture}: {first_line(err)}. Check --model-arg") from err


def checked_arguments(architecture: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an architecture, all of which shape a network. Raises RequestError: one does something else,
    such as opening a file."""
    if reason := refused_argument(arguments):
        raise RequestError(f"network {architecture}: {reason}. Leave it out")
    return dict(arguments)


def is_architecture(timm: Any, name: str) -> bool:
    """Whether a name is that of a timm architecture, with or without a tag, and not an address or a folder."""
    return bool(_NAME.fullmatch(name)) and bool(timm.is_model(name.partition(".")[0]))


def read_safetensors(path: Path) -> "dict[str, torch.Tensor]":
    """All tensors of a safetensors file; no other format is read, since pickles can run code. Raises RequestError: no
    such file. DataError: not a safetensors file, or with a weight that is not a number."""
    require("safetensors.torch", extra="client", purpose="weights")
    import safetensors.torch

    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError as err:
        raise RequestError(f"{path}: no such weights file") from err
    except Exception as err:  # SafetensorError derives from Exception alone
        raise DataError(
            f"{path}: not a safetensors file ({first_line(err)}). plada opens no pickles (.pt, .pth, .bin): they can run "
            "code. Convert it with safetensors.torch.save_file, see docs/encoders.md"
        ) from err
    bad = next(
        (name for name, tensor in state.items() if tensor.is_floating_point() and tensor.float().isnan().any()), None
    )
    if bad is not None:
        raise DataError(f"{path}: {bad} holds weights that are not numbers (NaN). Copy the file again, or train again")
    return state


def seed_everything(seed: int) -> None:
    """Seed torch's own generator, which draws the initial weights of the networks built next."""
    require("torch", extra="client", purpose="training")
    import torch

    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the initial weights of networks built inside; torch's generator is left as it was before."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def keep_memory() -> bool:
    """Let glibc keep freed memory for the next batch; False where there is no glibc.

    By default glibc gives large freed blocks back to the kernel, and the kernel must zero each page again for the next batch
    (figures: docs/encoders.md). The price is that the process keeps its peak.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return all(mallopt(parameter, _KEPT) == 1 for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))


def to_device(module: "nn.Module", where: "torch.device") -> "nn.Module":
    """Move a module, its weights laid out channels last: convolutions on CPU and GPU are faster so."""
    import torch

    moved: nn.Module = cast(Any, module).to(where, memory_format=torch.channels_last)
    return moved


def pick_device(device: str | None) -> "torch.device":
    """The device named, else the first GPU, else the CPU. Raises RequestError: not a device of this machine."""
    import torch

    try:
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as err:
        raise RequestError(f"device '{device}': not on this machine. `plada doctor` lists what is") from err
    return where


def to_floats(pixels: "U8 | torch.Tensor", where: "torch.device") -> "torch.Tensor":
    """uint8 [n, h, w, 3], here or on the device, to floats [n, 3, h, w] between 0 and 1 on the device."""
    import torch

    stored = torch.from_numpy(np.ascontiguousarray(pixels)) if isinstance(pixels, np.ndarray) else pixels
    return send(stored, where).permute(0, 3, 1, 2).float().div_(255)


def normalise(network: Network, images: "torch.Tensor") -> "torch.Tensor":
    """Subtract the network's mean and divide by its deviation, channel by channel."""
    import torch

    mean, std = (send(torch.tensor(part), images.device).view(1, 3, 1, 1) for part in (network.mean, network.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex. Raises RequestError: no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise RequestError(f"{path}: cannot be read ({err.strerror})") from err


def tensors_digest(module: "nn.Module") -> str:
    """SHA-256 over names, shapes, types and bytes of all tensors of a module, hex; for weights that are no file."""
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        whole.update(f"{name} {array.dtype} {array.shape}\n".encode())
        whole.update(array.data)
    return whole.hexdigest()


def mismatch(own: "Mapping[str, torch.Tensor]", state: "Mapping[str, torch.Tensor]") -> str:
    """The first tensor that is missing, unknown or of another shape in `state`; empty where all agree."""
    for kind, names in (("lacks", own.keys() - state.keys()), ("has the unknown", state.keys() - own.keys())):
        if names:
            return f"the file {kind} {min(names)}"
    name = next((name for name in own if own[name].shape != state[name].shape), None)
    return f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}" if name else ""


def near_networks(timm: Any, name: str) -> list[str]:
    """Names to suggest for one that timm does not know."""
    stem, known = name.partition(".")[0], timm.list_models()
    near = difflib.get_close_matches(stem, known, n=4, cutoff=0.7)
    same = [other for other in known if other.startswith(stem[:6]) and other not in near]
    return [SMALL_CNN, *near, *same[: 8 - len(near)]]


def view_of(network: Network, *, supersample: int = 1) -> View:
    """How a network wants its images; for training, `supersample` times as large as it sees them."""
    return View(size=network.size * supersample, crop=network.crop, interpolation=network.interpolation)
