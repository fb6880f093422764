"""A network fine-tuned on a target's own images: the teacher `finetune:ARCH`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np

from plada.common.arrays import F32, I64
from plada.common.checksums import NO_DIGEST, fill_digest, has_digest
from plada.common.files import whole_file
from plada.common.progress import Report, Tracker, silent
from plada.networks.data import load_images
from plada.networks.loop import fit, predict
from plada.networks.network import (
    Network,
    NetworkSpec,
    build_network,
    file_digest,
    pick_device,
    read_safetensors,
    seed_everything,
    size_note,
    view_of,
)
from plada.networks.recipe import Recipe, default_recipe
from plada.networks.trial import try_batch
from plada.sources.decode import load_pixels
from plada.sources.targets.target import Split, Target

if TYPE_CHECKING:
    import torch

PATIENCE = 6  # epochs without a better validation loss after which training ends
_EMA_SPAN = 0.1  # of all steps: what averaged weights look back on
_TEACHER_EPOCHS = 30


def finetune(
    spec: NetworkSpec,
    target: Target,
    *,
    recipe: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    seed: int = 0,
    device: str | None = None,
    report: Report = silent,
) -> Network:
    """A network trained on the target's training images, with augmentation and averaged weights (EMA).

    The weights of the epoch with the lowest loss on the validation images are kept; training ends PATIENCE epochs later.
    The folder `cache` keeps the result under the hash of all that decides its weights, and the next call loads it.

    Raises:
        UnknownName: no such network. RequestError: one that cannot be trained on these images. DataError: no image can be read, weights of another network.
    """
    seed_everything(seed)
    chosen = teacher_recipe(spec.name, len(target.train), trained=spec.trained).changed(target.recipe)
    chosen = chosen.changed(recipe or {})
    network = build_network(spec, classes=len(target.classes), image_size=chosen.image_size)
    if note := size_note(f"teacher {spec.name}", network.size, network.wanted_size):
        Tracker("teacher", None, report).say(note)
    path = None
    if cache is not None:
        digest = _digest(spec, target, network.size, chosen, seed)
        path = cache / f"{digest[:32]}.safetensors"
        if _load(network, path, digest):
            return network
        if path.exists():
            Tracker("teacher", None, report).say(f"{path}: damaged; the teacher is trained again")
    try_batch(network, chosen, len(target.train))
    view = view_of(network, supersample=chosen.supersample)
    images = load_images(
        target.train.collection.read, target.train.positions, target.train.labels, view,
        where=target.train.collection.location, stage="train images", report=report,
    )  # fmt: skip
    best = _BestEpoch(network, target.validation, device)
    fit(
        network, images, recipe=chosen, seed=seed, device=device, stage="teacher", report=report,
        stop_early=best.update if len(target.validation) else None,
    )  # fmt: skip
    best.restore()
    if path is not None:
        _save(network, path, digest)
    return network


def teacher_recipe(name: str, images: int, *, trained: bool) -> Recipe:
    """A client's recipe with more epochs (early stopping ends them) and averaged weights."""
    recipe = default_recipe(name, trained=trained)
    epochs = max(recipe.epochs, _TEACHER_EPOCHS)
    steps = max(1, epochs * max(1, images // min(recipe.batch_size, max(images, 1))))
    return replace(recipe, epochs=epochs, ema=max(0.0, 1 - 1 / max(2.0, _EMA_SPAN * steps)))


class _BestEpoch:
    """The weights with the lowest loss on the validation images so far."""

    def __init__(self, network: Network, validation: Split, device: str | None) -> None:
        self.network, self.device = network, device
        self.loss, self.since = float("inf"), 0
        self.state: dict[str, torch.Tensor] | None = None
        if len(validation):
            pixels, readable = load_pixels(
                validation.collection.read, validation.positions, view_of(network), stage="validation images"
            )
            self.pixels, self.labels = pixels[readable], validation.labels[readable]

    def update(self, module: "torch.nn.Module") -> bool:
        """Measure the network after an epoch; True when none was better for PATIENCE epochs."""
        if not len(self.labels):
            return False
        loss = _loss(predict(replace(self.network, module=module), self.pixels, device=self.device), self.labels)
        if loss < self.loss:
            self.loss, self.since = loss, 0
            self.state = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        else:
            self.since += 1
        return self.since >= PATIENCE

    def restore(self) -> None:
        """Give the network the best weights."""
        if self.state is not None:
            self.network.module.load_state_dict(self.state)
        self.network.module.to(pick_device(self.device)).eval()


def _loss(logits: F32, labels: I64) -> float:
    peak = logits.max(axis=1)
    total = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def _digest(spec: NetworkSpec, target: Target, size: int, recipe: Recipe, seed: int) -> str:
    """Hash of all that decides the weights; hex."""
    decides = {
        "network": spec.name,
        "weights": file_digest(Path(spec.weights)) if spec.weights else "",
        **({"pretrained": True} if spec.pretrained else {}),
        "model_args": dict(spec.model_args),
        "size": size,
        "recipe": asdict(recipe),
        "seed": seed,
        "classes": target.classes,
        "format": 1,
    }
    whole = blake3.blake3(json.dumps(decides, sort_keys=True, default=str).encode())
    for split in (target.train, target.validation):
        whole.update(len(split).to_bytes(8, "little") + np.ascontiguousarray(split.labels, "<i8").tobytes())
        for position in split.positions.tolist():
            data = split.collection.read(position)
            whole.update(len(data).to_bytes(8, "little") + data)
    return str(whole.hexdigest())


def _save(network: Network, path: Path, digest: str) -> None:
    import safetensors.torch

    state = {name: tensor.cpu().contiguous() for name, tensor in network.module.state_dict().items()}
    with whole_file(path) as part:
        part.write_bytes(safetensors.torch.save(state, metadata={"plada_teacher": f"{digest} {NO_DIGEST}"}))
        fill_digest(part, f"{digest} ".encode())


def _load(network: Network, path: Path, digest: str) -> bool:
    """Load weights that were saved under this digest; False where there are none, or they are damaged."""
    if not path.exists():
        return False
    try:
        if not has_digest(path, f"{digest} ".encode()):
            return False
        network.module.load_state_dict(read_safetensors(path), strict=True)
    except Exception:  # a cut or foreign file: train again and overwrite it
        return False
    network.module.eval()
    return True
