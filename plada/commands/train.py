"""The command `plada train`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    Confusion,
    CopyOptions,
    Machine,
    NetworkOptions,
    Output,
    PayloadFile,
    ReadingOptions,
    RecipeOption,
    Seed,
    evaluation_rows,
    pairs,
    seconds,
)
from plada.commands.console.output import print_line, print_table, reporter

if TYPE_CHECKING:
    from plada.trainer.run import TrainingSummary

_SHOWN = 5  # keys of changed images that are printed


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the run resumes, and what it writes."""

    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model. [default: PAYLOAD-STUDENT.safetensors]")
    ] = None
    restart: Annotated[bool, typer.Option("--restart", help="Start again, even if there is a model or checkpoint.")] = (
        False
    )
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Time between two checkpoints.")] = 60.0
    log: Annotated[
        Path | None, typer.Option(help="Where loss and learning rate go: a .csv file, or a folder for TensorBoard.")
    ] = None
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that compute, and read. [default: the processors that are free]")
    ] = None


def train(
    payload: PayloadFile,
    *,
    copy: CopyOptions,
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
            help="For a linear student: an index here, or an encoder; for --expand: an index. [default: the only one of these images]",
            autocompletion=completing.indexes_and_encoders,
        ),
    ] = None,
    network: NetworkOptions,
    recipe: RecipeOption = None,
    expand: Annotated[
        str,
        typer.Option(
            help="Train a network on this many more images of each class, labelled by a linear student on an index or pack here; "
            "auto: three times as many images as were sent, if that student labels held-back images well.",
        ),
    ] = "0",
    target: Annotated[
        str | None,
        typer.Option(help="Test the student on this target's test images.", autocompletion=completing.targets),
    ] = None,
    confusion: Confusion = None,
    own: Annotated[
        Path | None,
        typer.Option(help="A folder OWN/CLASS/* of your own pictures, a few of each class: the head learns them, too."),
    ] = None,
    run: RunOptions,
    seed: Seed = 0,
    reading: ReadingOptions,
    machine: Machine,
    output: Output,
) -> None:
    """Train a student on the images and labels of a payload.

    If it is interrupted, the same command resumes. On several GPUs: torchrun --nproc-per-node N -m plada train ...
    """
    follower = int(os.environ.get("RANK", "0")) > 0  # one of torchrun's processes; only the first one reports
    with reporter(as_json=output.as_json and not follower, quiet=output.quiet or follower) as report:
        summary = plada.train(
            payload, reference=copy.copy(), student=network.spec(student), encoder=encoder, recipe=pairs(recipe),
            expand=int(expand) if expand.lstrip("-").isdecimal() else expand, target=target, confusion=confusion, own=own,
            out=run.out or Path(f"{_stem(payload)}-{student.replace('/', '_').replace(':', '_')}.safetensors"),
            run=plada.RunOptions(
                restart=run.restart, checkpoint_seconds=run.checkpoint_seconds, log=run.log, threads=run.threads
            ),
            seed=seed, read=reading.read(), device=machine.device, home=machine.home, report=report,
        )  # fmt: skip
    if follower:
        return
    if output.wrote_json(summary.to_dict()):
        return
    print_table(_rows(summary), title=f"trained on {payload}")
    said = summary.remarks if output.quiet else ()  # otherwise they were said when it began
    for remark in (*said, *_remarks(summary)):
        print_line(remark, error=True)


def _rows(summary: "TrainingSummary") -> list[list[str]]:
    on = f" on the embeddings of {summary.embeddings}" if summary.embeddings is not None else ""
    added = f", {summary.added} of them not sent" if summary.added else ""
    rows = [
        ["student", f"{summary.student}{on}, {summary.epochs} epochs, seed {summary.seed}"],
        *([["own pictures", f"{summary.own}, for the head"]] if summary.own else []),
        ["images", f"{summary.images} of {summary.reference}, {summary.classes} classes{added}"],
        *(
            evaluation_rows(summary.evaluation)
            if summary.evaluation
            else [["test accuracy", "not tested; name a --target"]]
        ),
        ["model", f"{summary.path}{' (it was there already)' if summary.finished_before else ''}"],
        ["seconds", seconds(summary.seconds)],
    ]
    if not summary.same_content:
        rows.append(["note", "the images have other bytes than the payload's (--same-keys)"])
    if summary.segments is not None and summary.segments[0] < summary.segments[1]:
        whole, total = summary.segments
        rows.append(["note", f"{whole} of the payload's {total} segments were whole (--partial)"])
    return rows


def _remarks(summary: "TrainingSummary") -> list[str]:
    remarks = []
    if summary.target_note:
        remarks.append(f"target {summary.target}: {summary.target_note}")
    if summary.recommended:
        options = ", ".join(f"{name}={value}" for name, value in summary.recommended.items())
        remarks.append(f"options from the payload: {options} (--recipe NAME=VALUE sets another)")
    if summary.own_note:
        remarks.append(f"own pictures: {summary.own_note}")
    if summary.left_out:
        remarks.append(f"{summary.left_out} images cannot be decoded and were left out")
    if summary.changed:
        named = ", ".join(summary.changed[:_SHOWN]) + (", ..." if len(summary.changed) > _SHOWN else "")
        remarks.append(f"{len(summary.changed)} images are missing or changed and were left out: {named}")
    if summary.emptied:
        remarks.append(f"no image is left of: {', '.join(summary.emptied)}")
    return remarks


def _stem(payload: str) -> str:
    return Path(payload.rstrip("/").rpartition("/")[2]).stem
