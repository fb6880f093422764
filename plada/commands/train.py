"""`plada train`, `predict`, `evaluate` and `export`: what a client does."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    Confusion,
    Device,
    Home,
    ImageSize,
    Json,
    MinSerial,
    ModelArg,
    PackFile,
    Partial,
    PayloadFile,
    Pretrained,
    Quiet,
    RecipeOption,
    ReferenceOption,
    RequireSignature,
    SameKeys,
    Seed,
    SkipChanged,
    Update,
    Weights,
    pairs,
    seconds,
)
from plada.commands.console.output import print_json, print_table, reporter

if TYPE_CHECKING:
    from plada.trainer.evaluation import Evaluation

_SHOWN = 5  # confused pairs, keys, that are printed


def train(
    payload: PayloadFile,
    reference: ReferenceOption = None,
    student: Annotated[
        str,
        typer.Option(
            help="small_cnn, any timm network, or linear (a head on an index or --encoder).",
            autocompletion=completing.students,
        ),
    ] = "resnet18",
    encoder: Annotated[
        str | None,
        typer.Option(
            help="For a linear student: an index here, or an encoder; for --widen: an index. [default: one of these images]",
            autocompletion=completing.indexes_and_encoders,
        ),
    ] = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    model_arg: ModelArg = None,
    image_size: ImageSize = None,
    recipe: RecipeOption = None,
    widen: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train a network on so many more images of each class, named by a linear student on an index here "
            "(--encoder NAME).",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Test the student on this target's test images.", autocompletion=completing.targets),
    ] = None,
    confusion: Confusion = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model. [default: PAYLOAD-STUDENT.safetensors]")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, whatever model or checkpoint is there.")
    ] = False,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Time between two checkpoints.")] = 60.0,
    log: Annotated[
        Path | None, typer.Option(help="Where loss and learning rate go: a .csv file, or a folder for TensorBoard.")
    ] = None,
    seed: Seed = 0,
    same_keys: SameKeys = False,
    skip_changed: SkipChanged = False,
    pack: PackFile = None,
    partial: Partial = False,
    update: Update = None,
    require_signature: RequireSignature = None,
    min_serial: MinSerial = 0,
    device: Device = None,
    home: Home = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a student on the images and labels of a payload.

    Stopped by whatever, the same command goes on. On several GPUs: torchrun --nproc-per-node N -m plada train ...
    """
    follows = int(os.environ.get("RANK", "0")) > 0  # one of torchrun's: the first process speaks
    with reporter(as_json=as_json and not follows, quiet=quiet or follows) as report:
        made = plada.train(
            payload, reference=reference, student=student, encoder=encoder, weights=weights, pretrained=pretrained,
            model_args=pairs(model_arg), image_size=image_size, recipe=pairs(recipe), widen=widen, target=target,
            confusion=confusion,
            out=out or Path(f"{_stem(payload)}-{student.replace('/', '_').replace(':', '_')}.safetensors"),
            restart=restart, checkpoint_seconds=checkpoint_seconds, log=log, seed=seed, same_keys=same_keys,
            skip_changed=skip_changed, pack=pack, partial=partial, update=update or (), require_signature=require_signature,
            min_serial=min_serial, device=device, home=home, report=report,
        )  # fmt: skip
    if follows:
        return None
    if as_json:
        return print_json("summary", made.to_dict())
    rows = [
        ["student", f"{made.student}, {made.epochs} epochs, seed {made.seed}"],
        [
            "images",
            f"{made.images} of {made.reference}, {made.classes} classes{f', {made.added} of them not sent' if made.added else ''}",
        ],
        *(_shown(made.evaluation) if made.evaluation else [["test accuracy", "not tested; name a --target"]]),
        ["model", f"{made.model}{' (it was there already)' if made.finished_before else ''}"],
        ["seconds", seconds(made.seconds)],
    ]
    if not made.same_content:
        rows.append(["note", "the images have other bytes than the payload's (--same-keys)"])
    if made.segments is not None and made.segments[0] < made.segments[1]:
        rows.append(["note", f"{made.segments[0]} of the payload's {made.segments[1]} segments were whole (--partial)"])
    print_table(rows, title=f"trained on {payload}")
    if made.target_note:
        print(f"target {target}: {made.target_note}", file=sys.stderr)
    if made.left_out:
        print(f"{made.left_out} images cannot be decoded and were left out", file=sys.stderr)
    if made.changed:
        named = ", ".join(made.changed[:_SHOWN]) + (", ..." if len(made.changed) > _SHOWN else "")
        print(f"{len(made.changed)} images are missing or changed and were left out: {named}", file=sys.stderr)
    if made.emptied:
        print(f"no image is left of: {', '.join(made.emptied)}", file=sys.stderr)
    return None


def _shown(found: "Evaluation") -> list[list[str]]:
    rows = [
        ["test accuracy", f"{found.accuracy:.1%} (95 %: {found.low:.1%} to {found.high:.1%}; {found.images} images)"],
        ["calibration", f"expected error {found.ece:.1%}"],
    ]
    if confused := found.confused(_SHOWN):
        rows.append(["taken for another", ", ".join(f"{true} for {called} {n}" for true, called, n in confused)])
    if found.unreadable:
        rows.append(["unreadable", f"{found.unreadable} test images do not count"])
    return rows


def _stem(payload: str) -> str:
    return Path(payload.rstrip("/").rpartition("/")[2]).stem
