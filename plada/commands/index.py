"""The command `plada index`: parse, call, print."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plada
from plada.commands.console import completion as completing
from plada.commands.console.options import (
    Engine,
    Home,
    ImageSize,
    ModelArg,
    Output,
    Pretrained,
    Weights,
    pairs,
    percent,
    seconds,
)
from plada.commands.console.output import print_line, print_table, print_unreadable
from plada.common.units import format_size
from plada.errors import EncoderMissing

if TYPE_CHECKING:
    from plada.indexer.forecast import IndexForecast
    from plada.indexer.job import IndexSummary
    from plada.retrieval.check import CheckReport


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Which encoder, and how it starts."""

    encoder: Annotated[
        str | None,
        typer.Option(
            help="A short name (`plada encoders`), open_clip:ARCH/TAG, open_clip:local-dir:PATH, timm:ARCH.TAG, or gradients. "
            "[default: the index's own, else `plada config`]",
            autocompletion=completing.encoders,
        ),
    ] = None
    weights: Weights = None
    tag: Annotated[str | None, typer.Option(help="The tag that a file of --weights stands for.")] = None
    pretrained: Pretrained = False
    model_arg: ModelArg = None
    image_size: ImageSize = None
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16 or bf16. [default: fp32 on a CPU, fp16 on a GPU]", autocompletion=completing.precisions
        ),
    ] = None
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the encoder first (torch.compile).")] = False

    def spec(self) -> "plada.EncoderSpec":
        """The encoder as `plada.index` takes it."""
        return plada.EncoderSpec(
            name=self.encoder or "", weights=self.weights, tag=self.tag, pretrained=self.pretrained,
            model_args=pairs(self.model_arg), image_size=self.image_size, precision=self.precision, compiled=self.compiled,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """Who does the work."""

    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images encoded at a time. [default: 32 on a CPU, 256 on a GPU]")
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that read, decode and, without a GPU, encode; 0: only this one. [default: one a core]",
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            help="torch's name of a device (cpu, cuda, cuda:1), or all: every GPU here. [default: a GPU if there is one]"
        ),
    ] = None
    engine: Engine = "local"


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Which part is built, and what becomes of what is there."""

    shard: Annotated[
        str | None, typer.Option(help="I/N: embed only the I-th of N parts, for a scheduler of your own; then --merge.")
    ] = None
    merge: Annotated[bool, typer.Option("--merge", help="Merge the parts into one index.")] = False
    append: Annotated[
        bool, typer.Option("--append", help="The reference has grown: embed only images that are new or changed.")
    ] = False
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Delete what is there under this name; with --append only an unfinished build."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What is done in place of building."""

    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try for half a minute, and print the time, disk and memory that the index needs."
        ),
    ] = False
    check: Annotated[
        bool,
        typer.Option("--check", help="Verify a finished index. Exit status 4 or 5 if something is wrong."),
    ] = False
    full: Annotated[bool, typer.Option("--full", help="With --check: hash every image, not a sample.")] = False


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """The pack that is written beside the index."""

    pack: Annotated[
        bool, typer.Option("--pack", help="Also write the pack that makes payloads smaller; see docs/pack-format.md.")
    ] = False
    pack_out: Annotated[
        Path | None, typer.Option(help="The pack's file (implies --pack). [default: in the home, installed]")
    ] = None
    pack_dimensions: Annotated[int, typer.Option(min=1, max=4096, help="Bytes an image in the pack.")] = 64

    def spec(self) -> "bool | plada.PackSpec":
        """The pack as `plada.index` takes it."""
        if not self.pack and self.pack_out is None:
            return False
        return plada.PackSpec(out=self.pack_out, dimensions=self.pack_dimensions)


def index(
    source: Annotated[
        str,
        typer.Argument(
            help="A registered name, a path or a URL: images, tars, WebDataset, parquet, Lance. With --check, the index's name.",
            autocompletion=completing.sources,
        ),
    ],
    *,
    name: Annotated[str | None, typer.Option(help="Name of the index. [default: the source's]")] = None,
    incomplete: Annotated[
        bool,
        typer.Option("--incomplete", help="Accept that some of the numbered files (-00001-of-00003) are missing."),
    ] = False,
    column: Annotated[
        str | None, typer.Option(help="The column of images, where a table has several (parquet, Lance).")
    ] = None,
    image_extension: Annotated[
        str | None, typer.Option(help="Which members of WebDataset's samples are the images, such as jpg.")
    ] = None,
    encoder: EncoderOptions,
    work: WorkOptions,
    build: BuildOptions,
    check: CheckOptions,
    ann: Annotated[
        str,
        typer.Option(
            help="Also an approximate index for search: ivf, hnsw, none, or auto (where it pays).",
            autocompletion=completing.ann_kinds,
        ),
    ] = "auto",
    pack: PackOptions,
    home: Home = None,
    output: Output,
) -> None:
    """Embed a reference into a searchable index. If it is interrupted, the same command resumes."""
    if check.check:
        with output.reporter() as report:
            found = plada.check_index(
                source, full=check.full, weights=encoder.weights, device=work.device, home=home, report=report
            )
        _show_check(found, output)
        return
    source = f"image-extension={image_extension.lstrip('.')}:{source}" if image_extension else source
    source = f"column={column}:{source}" if column else source
    source = f"incomplete:{source}" if incomplete else source
    if check.dry_run:
        with output.reporter() as report:
            expected = plada.forecast(
                source, encoder=encoder.spec(), batch_size=work.batch_size, workers=work.workers, device=work.device,
                home=home, report=report,
            )  # fmt: skip
        _show_forecast(expected, output)
        return

    def build_with(spec: "plada.EncoderSpec") -> "IndexSummary":
        with output.reporter() as report:
            return plada.index(
                source, name=name, encoder=spec, batch_size=work.batch_size, workers=work.workers, device=work.device,
                engine=work.engine, shard=build.shard, merge=build.merge, append=build.append,
                restart=build.restart, ann=ann, pack=pack.spec(), home=home, report=report,
            )  # fmt: skip

    try:
        summary = build_with(encoder.spec())
    except EncoderMissing as err:
        if not output.is_dialogue():
            raise
        size = f" ({err.megabytes} MB)" if err.megabytes is not None else ""
        if not typer.confirm(f"download {err.encoder}{size}?", err=True):
            raise
        summary = build_with(replace(encoder.spec(), name=err.encoder, pretrained=True))
    if output.wrote_json(summary.to_dict()):
        return
    _show_summary(summary, source)


def _show_summary(summary: "IndexSummary", source: str) -> None:
    reused = f", {summary.reused} of them from an earlier run" if summary.reused else ""
    rows = [
        ["images", f"{summary.images}{reused}"],
        *([] if summary.shard else [["unreadable", str(summary.unreadable)]]),
        ["encoder", f"{summary.encoder}, {summary.dimension} dimensions"],
        ["rate", f"{summary.images_per_second:.0f} images/s without loading; {summary.workers or 'no'} workers"],
        ["seconds", seconds(summary.seconds)],
        ["where it went", f"{seconds(summary.where)} (all processes together)"],
        ["key id, content id", f"{summary.key_id[:16]} {summary.content_id[:16] or '(when merged)'}"],
        ["path", summary.path],
    ]
    if summary.pack:
        kept = f"{percent(summary.pack['variance'])} of the variance"
        size = f"{summary.pack['bytes']} bytes, {summary.pack['dimensions']} dimensions"
        rows.append(["pack", f"{summary.pack['path']}: {size}, {kept}"])
    if summary.ann:
        speed = summary.ann["approximate"]["queries_per_second"] / summary.ann["exact"]["queries_per_second"]
        recall = f"recall@10 {summary.ann['recall_at_10']:.3f}"
        rows.append(["approximate", f"{summary.ann['kind']}: {recall}, {speed:.0f} x exact search"])
    print_table(
        rows, title=f"index {summary.name}" + (f", part {summary.shard}; no index yet" if summary.shard else "")
    )
    if summary.source_note:
        print_line(f"{source}: {summary.source_note}", error=True)
    for line in summary.notes:
        print_line(line, error=True)
    print_unreadable(summary.reasons)


def _show_check(found: "CheckReport", output: Output) -> None:
    if not output.wrote_json(found.to_dict()):
        words = {True: "ok", False: "FAILED", None: "not checked"}
        rows = [[item.what, words[item.ok], item.detail] for item in found.items]
        print_table(rows, head=("what", "result", "found"), title=f"index {found.name}, {found.images} images")
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _show_forecast(expected: "IndexForecast", output: Output) -> None:
    if output.wrote_json(expected.to_dict()):
        return
    each = ", ".join(f"{stage} {spent:.0f}" for stage, spent in expected.microseconds.items())
    rate = f"{expected.images_per_second:.0f} images/s"
    where = f"on {expected.device}, batches of {expected.batch_size}"
    rows = [
        ["time", f"{_duration(expected.seconds)} for {expected.images} images at {rate}"],
        ["disk", f"{format_size(expected.disk_bytes)}; {format_size(expected.free_bytes)} are free"],
        ["memory", f"{format_size(expected.memory_bytes)} with {expected.workers} workers"],
        ["microseconds an image", f"{each}; limited by {expected.limit}"],
        ["encoder", f"{expected.encoder}, {expected.dimension} dimensions, {where}"],
        ["trial", f"{expected.tried} images; nothing was kept"],
    ]
    print_table(rows, title="forecast")


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
