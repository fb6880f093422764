"""`plada bench` as a Python call."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plada.api.pack import make_pack
from plada.benchmark.document import document
from plada.benchmark.folder import claim, run_identity, target_digest
from plada.benchmark.jobs import BenchJob
from plada.benchmark.methods import METHODS, choose_methods
from plada.benchmark.paper_numbers import MEDICAL
from plada.benchmark.paper_preset import BUDGETS as PAPER_BUDGETS
from plada.benchmark.paper_preset import FAR, NATURAL, protocol
from plada.benchmark.paper_preset import KEEP as PAPER_KEEP
from plada.benchmark.paper_preset import METHODS as METHODS_OF_THE_PAPER
from plada.benchmark.plots import draw_plots
from plada.benchmark.results import Results
from plada.benchmark.rows import Row, write_parquet
from plada.benchmark.students import StudentPlan
from plada.benchmark.workers import measure_all
from plada.common.files import home_directory, local_place, write_bytes
from plada.common.machine import cores
from plada.common.outputs import check_output_folder
from plada.common.progress import Report, silent, with_heartbeat
from plada.common.summary import Summary
from plada.common.text import split_names
from plada.common.units import parse_share, parse_size
from plada.errors import BudgetTooSmall, RequestError, UnknownName
from plada.labeler.teachers import TeacherSpec
from plada.networks.network import NetworkSpec, as_spec, build_network
from plada.networks.recipe import default_recipe
from plada.networks.trial import try_batch
from plada.payload.pack import find_pack
from plada.retrieval.index import Index, indexes, open_index
from plada.sources.manifest import key_id
from plada.sources.registry import open_source, open_target
from plada.sources.targets.target import Target
from plada.trainer.run import LINEAR

BUDGETS = ("500", "1kB", "2kB")
KEEP = ("1%", "5%", "10%")
_PACK = "reference.pack"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTables:
    """What is measured for the paper's tables.

    Attributes:
        keep: Shares of the reference at which rules are compared as in the paper's tables 1, 3 and 4: a sequence, or a
            text with commas; "none" or an empty sequence leaves them out.
        far: Targets that are far from the reference, for table 5: a sequence, or a text with commas. None stands for those
            that are known to be medical.
        preset: `paper` runs the paper's protocol: its teacher, student, schedule, keep rates, rules and targets, where nothing else is
            given; the summary's `gaps` names what its text leaves open, and how that was filled. None stands for no preset.
        teacher: What labels the reference; it is shown every image. None stands for a linear teacher. The preset needs its weights.

    Examples:
        >>> import plada
        >>> plada.PaperTables(keep=("1%", "10%")).keep
        ('1%', '10%')
    """

    keep: str | Sequence[str | float] = KEEP
    far: str | Sequence[str] | None = None
    preset: str | None = None
    teacher: TeacherSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSummary(Summary):
    """What `plada.bench` measured.

    Attributes:
        out: The folder of all results.
        rows: Rows with an accuracy.
        measured: Rows that were measured by this call.
        targets: Names of the targets.
        budgets: Budgets in bytes.
        seeds: Number of seeds.
        student: Name of the student.
        ours: The method of ours that others are compared with.
        accuracy: Mean test accuracy over targets and seeds, 0 to 1, by method and budget ("-" for methods without one),
            where every target has a row.
        lead: By budget and method, how far ours is ahead, in the mean over the targets that both have.
        ahead: By budget, whether ours leads all other methods.
        unfit: Rows without an accuracy, whose method does not fit the budget.
        table: All rows, as Parquet.
        document: The results in words and tables.
        pictures: The plots.
        seconds: Time of this call.
        gaps: What the paper's protocol leaves open, and how it was filled; empty without `preset`.
    """

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
    gaps: tuple[str, ...] = ()


@with_heartbeat
def bench(
    index: Index | str | Path | None = None,
    *,
    reference: str | Path | None = None,
    targets: str | Sequence[str | Path] | None = None,
    budgets: str | Sequence[str | int] = BUDGETS,
    methods: str | Sequence[str] | None = None,
    seeds: int = 3,
    client_has: str = "pack",
    pack: str | Path | None = None,
    student: str | NetworkSpec = LINEAR,
    recipe: Mapping[str, Any] | None = None,
    paper: PaperTables | None = None,
    workers: int | None = None,
    out: str | Path = "plada-bench",
    device: str | None = None,
    home: str | Path | None = None,
    report: Report = silent,
) -> BenchSummary:
    """Compare our selections with the paper's rules, and with other things that could be sent, at equal bytes.

    Rows are written to `out` one by one; the same call resumes there. `out` gets table.parquet, bench.md and plots.
    docs/bench.md says what each method is and what is counted.

    Args:
        index: An opened index, its name or folder; None stands for the only one.
        reference: The images instead of an index: a registered name or a place. The index of them is found.
        targets: Registered names or places: a sequence, or a text with commas. None stands for the paper's, with
            its preset.
        budgets: Bytes that may be sent: a sequence, or a text with commas.
        methods: Names of methods: a sequence, or a text with commas. None stands for all that suit the student.
        seeds: Number of seeds; each draws another validation split.
        client_has: `pack` measures our selections for clients that have the pack and for those with the manifest alone;
            `manifest` only for the latter.
        pack: A pack's file; None stands for the installed one, or one that is made in `out`.
        student: `linear` (on the index's embeddings), or a network as for `train`.
        recipe: Training options of a network, by name.
        paper: What is measured for the paper's tables.
        workers: Processes, of one thread each; None stands for one a core. 1 is this process alone.
        out: Folder for rows, tables and plots.
        device: torch's name of a device for networks; None stands for a GPU if there is one.
        home: Where indexes and registered targets are.
        report: Called with progress.

    Returns:
        Mean accuracies, leads, and the files that were written.

    Raises:
        UnknownName: There is no such index, target, method or student.
        RequestError: Budgets or seeds are missing or bad; two targets have one name; a target has no test images; `out` holds
            another run or something else.
        BudgetTooSmall: No method fits any budget of a target.

    Examples:
        >>> import plada
        >>> result = plada.bench("glyphs", targets="digits", budgets=[300], seeds=1, out="bench")  # doctest: +SKIP
    """
    began, root, folder = time.monotonic(), home_directory(home), Path(out)
    tables, plan = (
        paper or PaperTables(),
        StudentPlan(network=as_spec(student), recipe=dict(recipe or {}), device=device),
    )
    check_output_folder(folder)
    opened = _open_index(index, reference, root)
    gaps: tuple[str, ...] = ()
    teacher = tables.teacher
    if tables.preset is not None:
        known = protocol(tables.preset, len(opened), teacher=teacher, student=plan.network, recipe=plan.recipe)
        plan = StudentPlan(network=known.student, recipe=known.recipe, device=device)
        teacher, gaps = known.teacher, known.gaps
        targets, methods = targets or (*NATURAL, *FAR), methods or METHODS_OF_THE_PAPER
        budgets = PAPER_BUDGETS if budgets == BUDGETS else budgets
        tables = replace(tables, keep=PAPER_KEEP if tables.keep == KEEP else tables.keep)
    if targets is None:
        raise RequestError("bench: expected at least one target and one budget")
    packs = client_has == "pack"
    names = choose_methods(methods, linear=plan.network.name == LINEAR)
    if client_has not in ("manifest", "pack"):
        raise RequestError(f"client-has '{client_has}': expected manifest or pack")
    names = tuple(name for name in names if packs or METHODS[name].has != "pack")
    sizes = tuple(sorted({parse_size(size) for size in _listed(budgets)}))
    keeps = _shares(tables.keep)
    if seeds < 1 or (workers is not None and workers < 1):
        raise RequestError(f"{seeds} seeds, {workers} workers: expected at least one of each")

    tasks = _open_targets(_listed(targets), root)
    _check_student(plan)
    far = _far_targets(tables.far, [task.name for _, task in tasks])
    digests = {task.name: target_digest(task) for _, task in tasks}
    named = _named_pack(opened, pack, folder) if packs else None
    claim(folder, run_identity(opened, plan, packs, named, teacher), digests)
    if packs and named is None:
        named = _made_pack(opened, folder, root, report)

    jobs = [
        BenchJob(
            index=opened.place, index_home=opened.home, spec=str(spec), target=task.name, seed=seed, home=root,
            out=folder, pack=named, budgets=sizes, keeps=keeps, methods=names, student=plan, teacher=teacher,
        )
        for seed in range(seeds)
        for spec, task in tasks
    ]  # fmt: skip
    measured = measure_all(jobs, workers or cores(), report)

    kept = {row.key: row for job in jobs for row in job.rows.read()}
    rows = [kept[key] for job in jobs for key in job.row_keys()]
    _check_budgets(rows, sizes, {task.name: len(task.classes) for _, task in tasks})
    write_parquet(rows, folder / "table.parquet")
    results = Results(rows, tuple(task.name for _, task in tasks), sizes, keeps, far)
    plots = draw_plots(results, folder)
    text = document(
        results, plots, index=opened.name, images=len(opened), encoder=str(opened.info["encoder"]["name"]),
        student=plan.network.name, seeds=seeds, cores=cores(), gaps=gaps,
        teacher=f"teacher {teacher.names}" if teacher is not None else "a linear teacher",
    )  # fmt: skip
    write_bytes(folder / "bench.md", text.encode())
    leads = results.leads()
    return BenchSummary(
        out=str(folder),
        rows=sum(row.accuracy is not None for row in rows),
        measured=measured,
        targets=results.targets,
        budgets=sizes,
        seeds=seeds,
        student=plan.network.name,
        ours=results.ours,
        accuracy=results.means(),
        lead=leads,
        ahead={budget: bool(by_method) and min(by_method.values()) > 0 for budget, by_method in leads.items()},
        unfit=sum(row.accuracy is None for row in rows),
        table=str(folder / "table.parquet"),
        document=str(folder / "bench.md"),
        pictures=tuple(map(str, plots)),
        seconds=time.monotonic() - began,
        gaps=gaps,
    )


def _listed(given: Any) -> list[Any]:
    listed = (
        split_names(given, lambda name: Path(local_place(name)).expanduser().exists())
        if isinstance(given, str)
        else list(given)
    )
    listed = [part for part in listed if part != ""]
    if not listed:
        raise RequestError("bench: expected at least one target and one budget")
    return listed


def _shares(keep: str | Sequence[str | float]) -> tuple[float, ...]:
    if keep == "none" or (not isinstance(keep, str) and not list(keep)):
        return ()
    return tuple(sorted({parse_share(share) for share in _listed(keep)}))


def _open_index(index: Index | str | Path | None, reference: str | Path | None, home: Path) -> Index:
    """The index that is named, or the one of these images. Raises UnknownName: no such index. RequestError: both are
    named, or there is not exactly one index of these images."""
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


def _open_targets(specs: Iterable[str | Path], home: Path) -> list[tuple[str | Path, Target]]:
    """The targets, opened before anything is measured. Raises UnknownName, RequestError, DataError: as open_target; two
    targets of one name; one without test images."""
    tasks = [(spec, open_target(spec, home)) for spec in specs]
    names = [task.name for _, task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"target {name}: named twice; rows are told apart by the target's name")
    for _, task in tasks:
        if task.test is None:
            raise RequestError(f"target {task.name}: has no test images, and nothing can be compared without")
    return tasks


def _check_student(plan: StudentPlan) -> None:
    """Refuse an unknown network or recipe before anything is measured."""
    if plan.network.name != LINEAR:
        recipe = default_recipe(plan.network.name, trained=plan.network.trained).changed(plan.recipe)
        spec = NetworkSpec(
            name=plan.network.name, model_args=plan.network.model_args, image_size=plan.network.image_size
        )
        network = build_network(spec, classes=2, image_size=recipe.image_size)
        if not plan.network.trained:  # weights decide the size of others
            try_batch(network, recipe, recipe.batch_size)


def _far_targets(far: str | Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    if far is None:
        return tuple(name for name in names if name in MEDICAL)
    listed = [part.strip() for part in far.split(",")] if isinstance(far, str) else list(far)
    for name in listed:
        if name not in names:
            raise UnknownName("target", name, names, hint="--far names targets of this benchmark")
    return tuple(listed)


def _named_pack(index: Index, pack: str | Path | None, folder: Path) -> Path | None:
    """The pack's file that is named or installed; None where one is made in the folder, or was made."""
    if pack is not None:
        return Path(pack)
    if (folder / _PACK).exists():
        return None
    found = find_pack(index.home, bytes.fromhex(index.info["key_id"]))
    return found.path if found is not None else None


def _made_pack(index: Index, folder: Path, home: Path, report: Report) -> Path:
    """The pack in the folder of the benchmark, made once."""
    if not (folder / _PACK).exists():
        make_pack(index, out=folder / _PACK, home=home, report=report)
    return folder / _PACK


def _check_budgets(rows: list[Row], budgets: tuple[int, ...], classes: Mapping[str, int]) -> None:
    """Refuse budgets that are too small for everything. Raises BudgetTooSmall: names the bytes that the smallest method
    needs."""
    for target in dict.fromkeys(row.target for row in rows):
        here = [row for row in rows if row.target == target and row.budget is not None]
        if here and all(row.accuracy is None for row in here):
            least = min((row.bytes for row in here if row.bytes is not None), default=budgets[-1] + 1)
            raise BudgetTooSmall(budget=budgets[-1], least=least, classes=classes[target])
