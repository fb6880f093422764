"""`plada report` as a Python call: a payload as a page that a person opens before it is sent."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plada.common.files import home_directory, write_bytes
from plada.common.outputs import check_outputs
from plada.common.progress import Report, silent, with_heartbeat
from plada.common.summary import Summary
from plada.common.units import parse_rate, parse_size
from plada.errors import RequestError
from plada.payload.inspect import RATES
from plada.reports.collect import MODEL, PICTURES, ModelTest, collect
from plada.reports.page import fit_page
from plada.trainer.payload_context import PayloadContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary(Summary):
    """What `plada report --json` prints.

    Attributes:
        report: The page that was written.
        bytes: Its size.
        payload: The payload file.
        payload_bytes: Its size.
        budget: Bytes that the payload may have; None where nobody said.
        images: Images that the payload labels; None where its labels cannot be read here.
        classes: Number of classes.
        pictures: Images that the page shows.
        accuracy: Share of the target's test images that the model names right; None without a model.
        unknown: What the page cannot say, in words.
    """

    report: str
    bytes: int
    payload: str
    payload_bytes: int
    budget: int | None
    images: int | None
    classes: int
    pictures: int
    accuracy: float | None
    unknown: tuple[str, ...]


@with_heartbeat
def report(
    payload: str | Path,
    *,
    out: str | Path = "report.html",
    reference: str | Path | None = None,
    same_keys: bool = False,
    selection: str | Path | None = None,
    model: str | Path | ModelTest | None = None,
    target: str | Path | None = None,
    weights: str | Path | None = None,
    budget: str | int | None = None,
    rate: Sequence[str | int] = (),
    pictures: int = PICTURES,
    pack: str | Path | None = None,
    require_signature: str | Path | None = None,
    names: str | Path | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> ReportSummary:
    """Write one HTML file that says what a payload is for, shows its images, and where its bytes go. It needs no network.

    Args:
        payload: A payload file, a URL of one, or the name of a task that was pulled.
        out: The page to write, replaced as a whole.
        reference: Where the pictures come from, a name or a path. By default a collection known here that fits; without
            one there are no pictures, and the page says so.
        same_keys: Accept a re-encoded or resized copy of the reference.
        selection: The table that was written with the payload (`Selection.write_table`): scores, class counts before the
            choice, budget, forecast and the command are in no payload.
        model: A model that was trained on the payload, to be tested; a `ModelTest` says on which device, too.
        target: What the model is tested on; by default the target of `selection`.
        weights: Where the encoder of a linear model lies now, if it has moved.
        budget: Size that the file may have ("1MB", or bytes), where no table says it.
        rate: Rates ("500bps", or bits a second) for which the time on air is given.
        pictures: Images that are shown, at most, spread over the classes.
        pack: A pack's file; by default the one that is installed.
        require_signature: A public key that must have signed the payload.
        names: A file of synset names, as ImageNet's words.txt, for the keys of pictures; by default the words.txt beside the
            images or one folder above.
        home: Folder of indexes and manifests; by default $PLADA_HOME or the user's data folder.
        report: Is called with the progress.

    Returns:
        The page with its size, and what it shows.

    Raises:
        RequestError: There is no such file, the table is of another payload, or a model has no target.
        PayloadError: The payload is bad.
        ReferenceMismatch: `reference` is another one.
        DataError: The target has other classes than the payload, or `names` is no file of names.

    Examples:
        >>> import plada
        >>> page = plada.report("digits.plada", selection="digits.parquet", out="report.html")
        >>> page.classes
        10
    """
    check_outputs(out)
    if pictures < 0:
        raise RequestError(f"pictures = {pictures}: expected 0 or more")
    test = (
        model
        if isinstance(model, ModelTest) or model is None
        else ModelTest(model=model, target=target, weights=weights)
    )
    if target is not None and test is None:
        raise RequestError("--target is what a model is tested on: name the --model, too")
    options = {
        "out": out, "reference": reference, "same_keys": same_keys, "selection": selection,
        **(asdict(test) if test is not None else {}),
        "budget": budget, "rate": list(rate), "pictures": pictures if pictures != PICTURES else None,
        "pack": pack, "require_signature": require_signature, "names": names, "home": home,
    }  # fmt: skip
    collected = collect(
        payload,
        PayloadContext(home=home_directory(home), reference=reference, pack=pack),
        selection=selection,
        model=test,
        same_keys=same_keys,
        budget=parse_size(budget) if budget is not None else None,
        rates=tuple(parse_rate(text) for text in rate) or RATES,
        pictures=pictures,
        options=options,
        require_signature=require_signature,
        names=names,
        report=report,
    )
    shown, page = fit_page(collected)
    write_bytes(Path(out), page)
    return ReportSummary(
        report=str(out),
        bytes=len(page),
        payload=str(payload),
        payload_bytes=shown.bytes,
        budget=shown.budget,
        images=shown.images,
        classes=len(shown.classes),
        pictures=shown.pictures,
        accuracy=next((each.value for each in shown.accuracies if each.who == MODEL), None),
        unknown=shown.unknown,
    )
