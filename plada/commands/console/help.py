"""How help is laid out: commands and options in panels, the most used first, and examples at the end.

A command that stands in no panel, and an option of a command with panels that stands in none, fail a test
(tests/commands/test_help.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PANELS: Mapping[str, Sequence[str]] = {
    "Server": ("index", "select", "publish", "sign", "keygen", "diff"),
    "Client": ("pull", "train", "predict", "evaluate", "export", "apply", "install-pack"),
    "Look": ("search", "explore", "inspect", "report", "verify", "bench"),
    "Tools": ("demo", "doctor", "indexes", "cache", "datasets", "encoders", "config"),
}
_COMMON = ("home", "quiet", "as_json")
OPTIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "index": {
        "Basic": ("name", "encoder", "pretrained", "weights", "dry_run", "append", "check"),
        "Encoder": ("image_size", "tag", "model_arg", "precision", "compiled"),
        "Source": ("incomplete", "column", "image_extension"),
        "Output": ("ann", "pack", "pack_out", "pack_dimensions", *_COMMON),
        "Work": ("device", "batch_size", "workers", "engine", "shard", "merge", "restart", "full"),
    },
    "select": {
        "Basic": ("target", "budget", "index", "rule", "keep", "seed"),
        "Output": ("out", "sheet", "table", "percentiles", "histogram", *_COMMON),
        "Teacher": ("teacher", "vote", "labels", "teacher_weights", "image_size", "model_arg", "recipe", "exhaustive", "force"),
        "Corrections": ("exclude", "relabel", "distinct", "drop_leaks"),
        "Delivery": ("client_has", "pack", "progressive", "segments", "sign", "serial", "calibration"),
        "Advanced": ("judge", "compare", "engine", "weights", "device"),
    },
    "train": {
        "Basic": ("reference", "student", "pretrained", "target", "out", "seed"),
        "Network": ("weights", "encoder", "image_size", "model_arg", "recipe"),
        "More images": ("own", "expand"),
        "Output": ("confusion", "log", *_COMMON),
        "Payload": ("pack", "partial", "update", "require_signature", "min_serial"),
        "Reference": ("same_keys", "skip_changed", "manifest"),
        "Work": ("device", "threads", "restart", "checkpoint_seconds"),
    },
    "export": {
        "Basic": ("to", "out", "reference", "link", *_COMMON),
        "Payload": ("pack", "partial", "update", "require_signature", "min_serial"),
        "Reference": ("same_keys", "skip_changed", "manifest"),
    },
    "report": {
        "Basic": ("out", "reference", "selection", "model", "target", *_COMMON),
        "Advanced": ("same_keys", "weights", "budget", "rate", "pictures", "names", "pack", "require_signature", "device"),
    },
    "bench": {
        "Basic": ("targets", "index", "reference", "budgets", "seeds", "methods", "out", *_COMMON),
        "Student": ("student", "weights", "pretrained", "model_arg", "image_size", "recipe"),
        "Paper": ("preset", "teacher", "teacher_weights", "keep", "far"),
        "Advanced": ("client_has", "pack", "workers", "device"),
    },
    "publish": {
        "Basic": ("sign", "name", "expires", "remove", *_COMMON),
        "Content": ("reference", "url", "report", "licence", "keep", "rotate_to"),
        "Delivery": ("push", "card", "carousel", "frame_bytes"),
    },
}  # fmt: skip
EXAMPLES: Mapping[str, Sequence[str]] = {
    "index": ("plada index /data/imagenet21k --encoder clip --pretrained", "plada index imagenet21k --check"),
    "install-pack": ("plada install-pack imagenet21k.pack",),
    "select": (
        "plada select --target food101 --budget 1MB",
        "plada select --target /data/birds --budget 20kB --sheet birds.png",
    ),
    "train": (
        "plada train food101.plada --student resnet18 --pretrained",
        "plada train food101.plada --reference /data/imagenet21k --student linear",
    ),
    "predict": (
        "plada predict photo.jpg --model food101.safetensors",
        "plada predict photos/ --model M -o answers.csv",
    ),
    "evaluate": ("plada evaluate food101.safetensors --target food101",),
    "export": ("plada export food101.plada --to webdataset -o food101-shards",),
    "inspect": ("plada inspect food101.plada --rate 500bps",),
    "report": ("plada report food101.plada --selection food101.parquet",),
    "bench": ("plada bench --index imagenet21k --targets food101,pets --budgets 5kB --out b",),
    "diff": ("plada diff monday.plada tuesday.plada -o change.plada",),
    "apply": ("plada apply monday.plada change.plada -o tuesday.plada",),
    "keygen": ("plada keygen server",),
    "sign": ("plada sign food101.plada --key server",),
    "publish": ("plada publish shop food101.plada --sign server",),
    "pull": ("plada pull shop/food101 --require-signature server.pub", "plada pull --all"),
    "verify": ("plada verify /data/imagenet21k --against food101.plada", "plada verify imagenet21k --leaks food101"),
    "search": ("plada search dog.jpg position:123 -k 20 --sheet hits.png",),
    "explore": ("plada explore imagenet21k food101.plada",),
    "indexes": ("plada indexes", "plada indexes rename imagenet21k in21k"),
    "cache": ("plada cache", "plada cache --prune"),
    "datasets": ("plada datasets food101",),
    "encoders": ("plada encoders",),
    "config": ("plada config", "plada config set encoder clip"),
    "demo": ("plada demo",),
    "doctor": ("plada doctor",),
}
_VALUES = {"path": "PATH", "int": "NUMBER", "float": "NUMBER"}  # Typer's words for kinds of values, and ours
_FIRST_COLUMN = 28  # of 80: what remains for the description is 60 % and more


def in_panels(command: str, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(panel, names of its options) of a command, in the order of the help; those without a panel are one of their own."""
    left = list(names)
    for panel, listed in OPTIONS.get(command, {}).items():
        if chosen := [name for name in listed if name in left]:
            left = [name for name in left if name not in chosen]
            yield panel, chosen
    if left:
        yield "Options", left


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Arguments, options by panel, and examples of a command."""
    shown = [parameter for parameter in command.get_params(ctx) if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    options = {parameter.name: parameter for parameter in shown if parameter.param_type_name == "option"}
    _write(formatter, "Arguments", [(argument_word(parameter), parameter.help or "") for parameter in arguments])
    for panel, names in in_panels(command.name, list(options)):
        _write(formatter, panel, [_option(options[name], ctx) for name in names])
    if examples := EXAMPLES.get(command.name):
        with formatter.section("Examples"):
            for line in examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def write_commands(group: Any, ctx: Any, formatter: Any) -> None:
    """Commands by panel."""
    for panel, names in PANELS.items():
        limit = formatter.width - _FIRST_COLUMN // 2
        rows = [(name, group.commands[name].get_short_help_str(limit)) for name in names if name in group.commands]
        _write(formatter, panel, rows)


def _write(formatter: Any, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=_FIRST_COLUMN)


def argument_word(parameter: Any) -> str:
    """An argument as usage and help have it: in capitals, in brackets where it may be left out."""
    name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any, ctx: Any) -> tuple[str, str]:
    """The words and the description of an option: flags have no value, a value is TEXT, NUMBER or PATH."""
    words, description = parameter.get_help_record(ctx)
    flags, _, kind = words.partition(" <")
    kind = kind.rstrip(">")
    if kind and kind != "bool":
        flags = f"{flags} {_VALUES.get(kind.partition(' ')[0], 'TEXT')}"
    return flags, " ".join(description.split())
