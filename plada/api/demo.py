"""`plada demo`: the whole way through on real handwriting, with nothing but what the packages bring."""

import io
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plada.api.index import index
from plada.api.payload import read_payload
from plada.api.report import report as write_report
from plada.api.select import select
from plada.api.train import train
from plada.common.files import home_directory
from plada.common.outputs import check_output_folder
from plada.common.progress import Clock, Report, silent, with_heartbeat
from plada.common.summary import Summary
from plada.payload.payload import Payload
from plada.retrieval.index import open_index
from plada.sources.decode import decode
from plada.sources.formats.builtin import open_digits
from plada.sources.targets.target import Split
from plada.trainer.run import RunOptions

# Chosen on the digits' validation split; what else was tried, and what it gave, is in docs/log.md.
BUDGET = 2000
RULE = "nearest"
TEACHER = "linear"
SEEDS = (0, 1, 2)
MODEL = "student.safetensors"  # of the first seed


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSummary(Summary):
    """What `plada demo --json` prints.

    Attributes:
        images: Images of the reference.
        images_per_second: Rate of indexing them.
        teacher_accuracy: Share of the digits' test images that the teacher names right.
        payload_images: Images that the payload labels.
        payload_bytes: Size of the payload.
        target_bytes: Size of the target's own training images as PNG files.
        student_accuracy: Mean accuracy of the students on the test images.
        student_accuracies: Accuracy of each student.
        student_spread: Standard deviation of these.
        seconds: Seconds of each step.
        payload: The payload file.
        sheet: The contact sheet of the first images of each class, in the rule's order.
        report: The page that shows all of it.
        reused: Steps that an earlier run had done.
    """

    images: int
    images_per_second: float
    teacher_accuracy: float
    payload_images: int
    payload_bytes: int
    target_bytes: int
    student_accuracy: float
    student_accuracies: tuple[float, ...]
    student_spread: float
    seconds: Mapping[str, float]
    payload: str
    sheet: str
    report: str
    reused: tuple[str, ...]


@with_heartbeat
def demo(
    *, out: str | Path = "plada-demo", source: str = "glyphs", home: str | Path | None = None, report: Report = silent
) -> DemoSummary:
    """Index the drawn characters, choose and label some for handwritten digits, and train students on these alone.

    Students are tested on the digits' test split, once each.

    Args:
        out: Folder for the payload, the contact sheet, the first student and a page that shows all of it.
        source: `glyphs`, or another draw of it such as glyphs:count=5000.
        home: Folder of indexes and manifests; by default $PLADA_HOME or the user's data folder.
        report: Is called with the progress.

    Returns:
        Accuracies, sizes, seconds, and the files.

    Examples:
        >>> import plada
        >>> result = plada.demo(out="demo")  # doctest: +SKIP
    """
    check_output_folder(out)
    folder, clock, root = Path(out), Clock(), home_directory(home)
    with clock("index"):
        built = index(source, home=root, report=report)
    with clock("select"):
        target = open_digits()
        selection = select(
            open_index(built.name, home=root), target="digits", budget=BUDGET, rule=RULE, teacher=TEACHER,
            out=folder / "digits.plada", home=root, report=report,
        )  # fmt: skip
        selection.contact_sheet(folder / "digits.png")
        selection.write_table(folder / "digits.parquet")
    with clock("read back"):
        payload = read_payload(folder / "digits.plada", home=root)
    with clock("train and test"):
        accuracies = _students(payload, source, folder, root, report)
    with clock("report"):
        page = write_report(
            folder / "digits.plada", out=folder / "digits.html", selection=folder / "digits.parquet",
            model=folder / MODEL, home=root, report=report,
        )  # fmt: skip
    teacher = selection.report.teacher
    return DemoSummary(
        images=built.images,
        images_per_second=built.images_per_second,
        teacher_accuracy=teacher.accuracy if teacher.accuracy is not None else float("nan"),
        payload_images=len(payload),
        payload_bytes=selection.report.bytes,
        target_bytes=png_bytes(target.train),
        student_accuracy=statistics.fmean(accuracies),
        student_accuracies=accuracies,
        student_spread=statistics.stdev(accuracies),
        seconds=clock.seconds,
        payload=str(folder / "digits.plada"),
        sheet=str(folder / "digits.png"),
        report=page.report,
        reused=("index",) if built.reused == built.images else (),
    )


def _students(payload: Payload, source: str, folder: Path, home: Path, report: Report) -> tuple[float, ...]:
    """Test accuracy of a student for each seed; the first one is kept."""
    accuracies = [
        train(
            payload,
            reference=source,
            student="small_cnn",
            target="digits",
            seed=seed,
            home=home,
            report=report,
            out=folder / MODEL if number == 0 else None,
            run=RunOptions(restart=number == 0),
        ).accuracy
        for number, seed in enumerate(SEEDS)
    ]
    return tuple(value for value in accuracies if value is not None)


def png_bytes(split: Split) -> int:
    """Bytes of a split's images as PNG files, grey where they are grey, best compression."""
    total = 0
    for position in split.positions:
        image = decode(split.collection.read(int(position)))
        bands = np.asarray(image)
        grey = bool((bands == bands[..., :1]).all())
        buffer = io.BytesIO()
        (image.convert("L") if grey else image).save(buffer, format="PNG", optimize=True)
        total += buffer.tell()
    return total
