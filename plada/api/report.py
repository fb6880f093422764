"""`plada report` as a Python call: a payload as a page that a person opens before it is sent."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plada.common.files import home_directory, write_bytes
from plada.common.progress import Report, silent
from plada.common.units import parse_rate, parse_size
from plada.errors import RequestError
from plada.payload.inspect import RATES
from plada.reports.collect import MODEL, Wanted, collect
from plada.reports.command_line import changed_options
from plada.reports.findings import Findings
from plada.reports.page import fitting
from plada.trainer.payload_file import PayloadContext

OUT = "report.html"
PICTURES = 1500  # in all; a photograph takes 1.7 kB of the page


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """The fields of `plada report --json`: the page with its bytes, what it shows, and in words what it cannot say."""

    report: str
    bytes: int
    payload: str
    payload_bytes: int
    budget: int | None
    images: int | None
    classes: int
    pictures: int
    accuracy: float | None  # of the model on the target's test images
    unknown: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def report(
    payload: str | Path,
    *,
    out: str | Path = OUT,
    reference: str | Path | None = None,
    same_keys: bool = False,
    selection: str | Path | None = None,
    model: str | Path | None = None,
    target: str | Path | None = None,
    weights: str | Path | None = None,
    budget: str | int | None = None,
    rate: Sequence[str | int] = (),
    pictures: int = PICTURES,
    pack: str | Path | None = None,
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> ReportSummary:
    """Write one HTML file that says what a payload is for, shows its images, and where its bytes go. It needs no network.

    `selection` is the table that `Selection.write_table` wrote for the payload: scores, class counts before the choice,
    budget, forecast and the command are in no payload. Pictures, `pictures` at most, come from `reference`, or from a
    collection known here that fits; without one there are none, and the page says so. `model` and its `weights` are
    tested on `target` (by default the one of the selection). `budget` is what the file may have, where no table says
    it; time on air is given for each `rate`. `same_keys` accepts a re-encoded copy of the reference.

    Raises:
        RequestError: no such file, a table of another payload, a model without a target. PayloadError: the payload is bad.
        ReferenceMismatch: `reference` is another one. DataError: the target has other classes than the payload.
    """
    if pictures < 0:
        raise RequestError(f"pictures = {pictures}: expected 0 or more")
    if target is not None and model is None:
        raise RequestError("--target is what a model is tested on: name the --model, too")
    wanted = Wanted(
        payload=payload,
        selection=selection,
        same_keys=same_keys,
        model=model,
        target=target,
        weights=weights,
        budget=parse_size(budget) if budget is not None else None,
        rates=tuple(parse_rate(text) for text in rate) or RATES,
        pictures=pictures,
        device=device,
        around=PayloadContext(home=home_directory(home), reference=reference, pack=pack),
        options=changed_options(
            {
                "out": out,
                "reference": reference,
                "same_keys": same_keys,
                "selection": selection,
                "model": model,
                "target": target,
                "weights": weights,
                "budget": budget,
                "rate": tuple(rate),
                "pictures": pictures,
                "pack": pack,
                "device": device,
                "home": home,
            },
            {"out": OUT, "same_keys": False, "rate": (), "pictures": PICTURES},
        ),
    )
    found, page = fitting(collect(wanted, report))
    write_bytes(Path(out), page)
    return _summary(str(out), len(page), str(payload), found)


def _summary(out: str, size: int, payload: str, found: Findings) -> ReportSummary:
    return ReportSummary(
        report=out,
        bytes=size,
        payload=payload,
        payload_bytes=found.bytes,
        budget=found.budget,
        images=found.images,
        classes=len(found.classes),
        pictures=found.pictures,
        accuracy=next((one.value for one in found.accuracies if one.who == MODEL), None),
        unknown=found.unknown,
    )
