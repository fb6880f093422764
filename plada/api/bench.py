"""`plada bench` as a Python call: every method on every target, budget and seed, resumable, as tables and pictures."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from plada.api.pack import make_pack
from plada.benchmark.document import document
from plada.benchmark.figures import Results
from plada.benchmark.methods import METHODS, pick_methods
from plada.benchmark.paper_numbers import MEDICAL
from plada.benchmark.pictures import draw
from plada.benchmark.rows import Lines, Row, claim, write_parquet
from plada.benchmark.students import Students
from plada.benchmark.unit import Unit, measure, start_worker
from plada.common.files import home_directory, write_bytes
from plada.common.machine import cores
from plada.common.packages import require
from plada.common.progress import Progress, Report, Tracker, silent
from plada.common.units import parse_share, parse_size
from plada.encoders.encoder import config_from_json
from plada.errors import BudgetTooSmall, RequestError, ResourceError, UnknownName
from plada.networks.network import build_network, file_digest
from plada.networks.recipe import Recipe
from plada.payload.pack import find_pack, read_pack
from plada.retrieval.index import Index, indexes, open_index
from plada.sources.manifest import key_id
from plada.sources.registry import open_source, open_target
from plada.sources.targets.target import Split, Target

BUDGETS = ("500", "1kB", "2kB")
KEEP = ("1%", "5%", "10%")
LINEAR = "linear"
_PACK = "reference.pack"
_LOOK = 0.5  # seconds between two looks at how far the workers are


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSummary:
    """The fields of `plada bench --json`. `accuracy` is a student's mean test accuracy over targets and seeds by method and
    budget (once: "-"), where every target has one; `lead` is what ours (client has the pack; else the manifest) is ahead of
    each other method on the cells that both have, in the mean over targets; `ahead` whether it leads all of them at
    each budget."""

    out: str
    rows: int
    measured: int
    targets: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: int
    student: str
    ours: str
    accuracy: Mapping[str, Mapping[str, float]]
    lead: Mapping[str, Mapping[str, float]]
    ahead: Mapping[str, bool]
    unfit: int
    table: str
    document: str
    pictures: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def bench(
    index: Index | str | Path | None = None,
    *,
    reference: str | Path | None = None,
    targets: str | Sequence[str | Path],
    budgets: str | Sequence[str | int] = BUDGETS,
    keep: str | Sequence[str | float] = KEEP,
    methods: str | Sequence[str] | None = None,
    seeds: int = 3,
    client_has: str = "pack",
    pack: str | Path | None = None,
    student: str = LINEAR,
    weights: str | Path | None = None,
    pretrained: bool = False,
    model_args: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    far: str | Sequence[str] | None = None,
    workers: int | None = None,
    out: str | Path = "plada-bench",
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> BenchSummary:
    """Compare our selections with the paper's rules, and with other things that could be sent, at equal bytes.

    `index` is an opened index, its name or folder, or None for the only one there is; or `reference` names the images (a
    registered name or a place), and the index of them is found. `targets`, `budgets` and `methods` are sequences, or texts with commas. `keep`
    are shares of the reference at which rules are compared as the paper compares them ("none": not at all). Each seed
    draws another validation split. `client_has` is pack, which measures ours for clients that have it and for those that have the
    manifest alone, or manifest; `pack` is its file, else the installed one, else one is made in `out`.

    `student` is `linear` (on the index's embeddings) or a network as for `train`, with what `weights`, `pretrained`, `model_args`,
    `image_size`, `recipe` and `device` say. `far` are targets that are far off (the paper's table 5), by default those known to be
    medical. `workers` are processes of one thread each, by default one a core; 1 is this process alone.

    Rows go to `out` one by one; the same call goes on from there. `out` gets table.parquet, bench.md and pictures.
    docs/bench.md says what each method is and what is counted.

    Raises:
        UnknownName: no such index, target, method, student. RequestError: no or bad budgets, seeds; two targets of one name;
        a target without test images; `out` holds another run or something else. BudgetTooSmall: no method fits any budget of a target.
    """

    began, root, folder = time.monotonic(), home_directory(home), Path(out)
    chosen = pick_methods(methods, linear=student == LINEAR)
    if client_has not in ("manifest", "pack"):
        raise RequestError(f"client-has '{client_has}': expected manifest or pack")
    chosen = tuple(name for name in chosen if client_has == "pack" or METHODS[name].has != "pack")
    sizes = tuple(sorted({parse_size(size) for size in _listed(budgets)}))
    shares = _shares(keep)
    if seeds < 1 or (workers is not None and workers < 1):
        raise RequestError(f"{seeds} seeds, {workers} workers: expected at least one of each")
    opened = _opened(index, reference, root)
    tasks = _tasks(_listed(targets), root)
    students = Students(
        student=student, weights=Path(weights) if weights else None, pretrained=pretrained,
        model_args=dict(model_args or {}), image_size=image_size, recipe=dict(recipe or {}), device=device,
    )  # fmt: skip
    _check_student(students)
    distant = _far(far, [task.name for _, task in tasks])
    digests = {task.name: _digest(task) for _, task in tasks}
    packs = client_has == "pack"
    named = _known_pack(opened, pack, folder) if packs else None
    claim(folder, _identity(opened, students, packs, named), digests)
    packed = (named or _made_pack(opened, folder, root, report)) if packs else None
    units = [
        Unit(
            index=opened.folder, index_home=opened.home, spec=str(spec), target=task.name, seed=seed, home=root,
            out=folder, pack=packed, budgets=sizes, keeps=shares, methods=chosen, students=students,
        )
        for seed in range(seeds)
        for spec, task in tasks
    ]  # fmt: skip
    measured = _measure(units, workers or cores(), report)
    wanted = {key for unit in units for key in unit.cells()}
    kept = {row.key: row for unit in units for row in Lines(folder, unit.target, unit.seed).read()}
    rows = [kept[key] for unit in units for key in unit.cells() if key in wanted]
    _check_budgets(rows, sizes, {task.name: len(task.classes) for _, task in tasks})
    write_parquet(rows, folder / "table.parquet")
    return _told(opened, rows, units, measured, distant, folder, time.monotonic() - began)


def _told(
    index: Index,
    rows: list[Row],
    units: list[Unit],
    measured: int,
    far: tuple[str, ...],
    folder: Path,
    seconds: float,
) -> BenchSummary:

    one = units[0]
    names = tuple(dict.fromkeys(unit.target for unit in units))
    seeds = len({unit.seed for unit in units})
    results = Results(rows, names, one.budgets, one.keeps, far)
    pictures = draw(results, folder)
    text = document(
        results, pictures, index=index.name, images=len(index), encoder=str(index.info["encoder"]["name"]),
        student=one.students.student, seeds=seeds, cores=cores(),
    )  # fmt: skip
    write_bytes(folder / "bench.md", text.encode())
    return BenchSummary(
        out=str(folder),
        rows=sum(row.accuracy is not None for row in rows),
        measured=measured,
        targets=names,
        budgets=one.budgets,
        seeds=seeds,
        student=one.students.student,
        ours=results.ours,
        accuracy=results.means(),
        lead=results.leads(),
        ahead={budget: bool(leads) and min(leads.values()) > 0 for budget, leads in results.leads().items()},
        unfit=sum(row.accuracy is None for row in rows),
        table=str(folder / "table.parquet"),
        document=str(folder / "bench.md"),
        pictures=tuple(str(path) for path in pictures),
        seconds=seconds,
    )


def _measure(units: list[Unit], workers: int, report: Report) -> int:
    """Measure all units, in processes of one thread each; returns the number of new rows."""

    def left(unit: Unit) -> int:
        done = {row.key for row in Lines(unit.out, unit.target, unit.seed).read()}
        return sum(key not in done for key in unit.cells())

    missing = {number: count for number, unit in enumerate(units) if (count := left(unit))}
    tracker = Tracker("bench", sum(missing.values()), report)
    workers = min(workers, len(missing))
    if workers <= 1:

        def rows(progress: Progress) -> None:
            if not progress.note and progress.done:
                tracker.advance(progress.done - seen.get(progress.stage, 0))
                seen[progress.stage] = progress.done

        seen: dict[str, int] = {}
        return sum(measure(units[number], rows) for number in missing)
    return _measure_apart([units[number] for number in missing], workers, left, tracker)


def _measure_apart(units: list[Unit], workers: int, left: Any, tracker: Tracker) -> int:

    require("loky", extra="cpu", purpose="worker processes")
    from loky import ProcessPoolExecutor
    from loky.process_executor import BrokenProcessPool

    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    total = sum(left(unit) for unit in units)
    pool = ProcessPoolExecutor(workers, initializer=start_worker, initargs=(os.getpid(),), env=one)
    try:
        waiting = [pool.submit(measure, unit) for unit in units]
        done = 0
        while True:
            finished, unfinished = wait(waiting, timeout=_LOOK, return_when=FIRST_EXCEPTION)
            now = total - sum(left(unit) for unit in units)
            if now > done:
                tracker.advance(now - done)
                done = now
            for future in finished:
                future.result()
            if not unfinished:
                return done
    except BrokenProcessPool as err:
        raise ResourceError(
            "bench: a worker process was killed, mostly for want of memory. Run the same command again with fewer --workers; "
            "what is finished is kept"
        ) from err
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _listed(given: Any) -> list[Any]:
    listed = [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given)
    listed = [part for part in listed if part != ""]
    if not listed:
        raise RequestError("bench: expected at least one target and one budget")
    return listed


def _shares(keep: str | Sequence[str | float]) -> tuple[float, ...]:
    if keep == "none" or (not isinstance(keep, str) and not list(keep)):
        return ()
    return tuple(sorted({parse_share(share) for share in _listed(keep)}))


def _opened(index: Index | str | Path | None, reference: str | Path | None, home: Path) -> Index:
    """The index that is named, or the one of these images.

    Raises:
        UnknownName: no such index. RequestError: both or neither are named, or there is no index of these images.
    """

    if reference is None:
        return index if isinstance(index, Index) else open_index(index, home=home)
    if index is not None:
        raise RequestError("bench: name an --index or a --reference, not both")

    found = key_id(open_source(reference, home).keys).hex()
    fitting = [name for name in indexes(home) if open_index(name, home=home).info["key_id"] == found]
    if len(fitting) != 1:
        which = f"{len(fitting)} indexes are of these images: {', '.join(fitting)}. Name one with --index"
        raise RequestError(f"{reference}: {which if fitting else 'there is no index of these images. Make one with `plada index`'}")  # fmt: skip
    return open_index(fitting[0], home=home)


def _tasks(specs: Iterable[str | Path], home: Path) -> list[tuple[str | Path, Target]]:
    """The targets, opened before anything is measured.

    Raises:
        UnknownName, RequestError, DataError: as open_target; two of one name; one without test images.
    """
    tasks = [(spec, open_target(spec, home)) for spec in specs]
    names = [task.name for _, task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"target {name}: named twice; rows are told apart by the target's name")
    for _, task in tasks:
        if task.test is None:
            raise RequestError(f"target {task.name}: has no test images, and nothing can be compared without")
    return tasks


def _digest(task: Target) -> str:
    """Hash of a target's classes and of the stored images of all its splits, however train and validation were drawn."""
    whole = blake3("\0".join(task.classes).encode())
    parts: list[list[str]] = []
    for splits in ([task.train, task.validation], [task.test] if task.test is not None else []):
        parts.append(sorted(line for split in splits for line in _images(split)))
    whole.update("\n\n".join("\n".join(part) for part in parts).encode())
    return whole.hexdigest(16)


def _images(split: Split) -> Iterable[str]:
    for position, label in zip(split.positions.tolist(), split.labels.tolist(), strict=True):
        yield f"{label} {blake3(split.collection.read(position)).hexdigest(16)}"


def _identity(index: Index, students: Students, packs: bool, pack: Path | None) -> dict[str, Any]:
    """What decides every number of a run, plain values."""

    options = {
        "weights": file_digest(students.weights) if students.weights else None,
        **{name: getattr(students, name) for name in ("pretrained", "model_args", "image_size", "recipe")},
    }
    return {
        "index": {name: index.info[name] for name in ("key_id", "content_id")},
        "encoder": config_from_json(index.info["encoder"]).identity(),
        "student": students.student,
        **({"student_options": options} if students.student != LINEAR else {}),
        **({"pack": read_pack(pack).pack_id.hex() if pack is not None else "made here"} if packs else {}),
    }


def _check_student(students: Students) -> None:
    """Refuse an unknown network before anything is measured."""
    if students.student != LINEAR:
        Recipe().changed(students.recipe)
        build_network(students.student, classes=2, model_args=students.model_args, image_size=students.image_size)


def _known_pack(index: Index, pack: str | Path | None, folder: Path) -> Path | None:
    """The pack's file that is named, or installed; None where one is made here, or has been."""

    if pack is not None:
        return Path(pack)
    if (folder / _PACK).exists():
        return None
    found = find_pack(index.home, bytes.fromhex(index.info["key_id"]))
    return found.path if found is not None else None


def _made_pack(index: Index, folder: Path, home: Path, report: Report) -> Path:
    """A pack in the folder of the benchmark, made once."""

    if not (folder / _PACK).exists():
        make_pack(index, out=folder / _PACK, home=home, report=report)
    return folder / _PACK


def _check_budgets(rows: list[Row], budgets: tuple[int, ...], classes: Mapping[str, int]) -> None:
    """Refuse budgets that are too small for everything, once that is known.

    Raises:
        BudgetTooSmall: names the least bytes that a method of ours needs.
    """
    for target in dict.fromkeys(row.target for row in rows):
        here = [row for row in rows if row.target == target and row.budget is not None]
        if here and all(row.accuracy is None for row in here):
            least = min((row.bytes for row in here if row.bytes is not None), default=budgets[-1] + 1)
            raise BudgetTooSmall(budget=budgets[-1], least=least, classes=classes[target])


def _far(far: str | Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:

    if far is None:
        return tuple(name for name in names if name in MEDICAL)
    listed = [part.strip() for part in far.split(",")] if isinstance(far, str) else list(far)
    for name in listed:
        if name not in names:
            raise UnknownName("target", name, names, hint="--far names targets of this benchmark")
    return tuple(listed)
