"""What the shell offers after TAB: names that are known without loading anything heavy. Where nothing fits, files."""

import json
from collections.abc import Callable, Iterable, Iterator

import typer

from plada.common.files import home_directory
from plada.encoders.known import KNOWN_ENCODERS

Offer = tuple[str, str]  # a value and one line about it


def targets(incomplete: str) -> list[Offer]:
    """Collections known by name that can be a target."""
    return _fitting(_collections("target"), incomplete)


def several_targets(incomplete: str) -> list[Offer]:
    """The same for the last of several names with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [(f"{before}{comma}{name}", about) for name, about in targets(last)]


def references(incomplete: str) -> list[Offer]:
    """Collections known by name that can be a reference."""
    return _fitting(_collections("reference"), incomplete)


def collections(incomplete: str) -> list[Offer]:
    """All collections known by name."""
    return _fitting(_collections("reference", "target"), incomplete)


def indexes(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Finished indexes in the home that the command line names so far."""
    return _fitting(((name, f"{encoder} index") for name, encoder in _indexes(ctx)), incomplete)


def sources(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """What `plada index` takes: a reference, or with --check an index."""
    return indexes(ctx, incomplete) if ctx.params.get("check") else references(incomplete)


def payloads(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Tasks that were pulled into the home that the command line names so far; without any, files."""
    return _fitting(_pulled(ctx), incomplete)


def encoders(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """The built-in encoder, and those that an index here was made with."""
    used = {encoder: f"used by index {name}" for name, encoder in _indexes(ctx)}
    short = {short: known.name for short, known in KNOWN_ENCODERS.items()}
    return _fitting({"gradients": "built in, no weights", **used, **short}.items(), incomplete)


def indexes_and_encoders(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """What a linear student stands on."""
    return [*indexes(ctx, incomplete), *encoders(ctx, incomplete)]


def rules(incomplete: str) -> list[Offer]:
    """The rules, with a line about each."""
    from plada.selection.rules.registry import AUTO, RULES  # loads numpy, which a shell need not wait for

    return _fitting([(AUTO, "tries some"), *((name, rule.about) for name, rule in RULES.items())], incomplete)


def words(*values: str) -> Callable[[str], list[Offer]]:
    """A completer of a few fixed words."""

    def complete(incomplete: str) -> list[Offer]:
        return _fitting(((value, "") for value in values), incomplete)

    return complete


labels = words("hard", "soft", "dirichlet")
teachers = words("linear", "zeroshot", "finetune:small_cnn")
students = words("linear", "small_cnn", "resnet18")
client_has = words("nothing", "manifest", "pack")
progressive = words("blocks", "layers")
export_forms = words("csv", "parquet", "folder", "webdataset", "tfrecord", "hf")
precisions = words("fp32", "fp16", "bf16")
engines = words("local", "ray")
ann_kinds = words("auto", "none", "ivf", "hnsw")


def _fitting(offers: Iterable[Offer], incomplete: str) -> list[Offer]:
    return [offer for offer in offers if offer[0].startswith(incomplete) and all(map(str.isprintable, offer))]


def _collections(*roles: str) -> Iterator[Offer]:
    from plada.sources.catalogue.known import KNOWN  # loads numpy, which a shell need not wait for

    return ((name, known.about) for name, known in KNOWN.items() if known.role in (*roles, "both"))


def _pulled(ctx: typer.Context) -> Iterator[Offer]:
    """Task and catalogue; what cannot be read is left out, as below."""
    for path in sorted((home_directory(ctx.params.get("home")) / "catalogues").glob("*/state.json")):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            yield from ((str(task), f"pulled from {state['name']}") for task in sorted(state["tasks"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _indexes(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Name and encoder; what cannot be read is left out, since a shell that waits for TAB is no place for errors."""
    for path in sorted((home_directory(ctx.params.get("home")) / "indexes").glob("*/index.json")):
        try:
            yield path.parent.name, str(json.loads(path.read_text(encoding="utf-8"))["encoder"]["name"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
