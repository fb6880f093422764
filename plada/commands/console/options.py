"""What all commands have in common: how a failure ends, the options they share, and how figures are shown.

A command is a plain function. A parameter whose type is one of the frozen dataclasses below stands for a group of options:
`with_options` gives Typer the fields as options of the command. So each option is declared once.
"""

import errno
import functools
import inspect
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

import plada
from plada.commands.console import completion as completing
from plada.commands.console.help import argument_word, write_commands, write_options
from plada.commands.console.output import FirstSign, end_first_sign, print_json, print_line, reporter
from plada.commands.console.pipes import READER_LEFT, reader_left
from plada.common.failures import device_failed, first_line, out_of_memory
from plada.common.progress import Report
from plada.common.units import MAX_SEED
from plada.errors import Interrupted, PladaError, RequestError, ResourceError

if TYPE_CHECKING:
    from plada.trainer.adaptation import Adaptation
    from plada.trainer.evaluation import Evaluation

_CONFUSED = 5  # pairs of classes that are printed
_SHARES = 5  # classes whose shares are printed

Out = Annotated[Path, typer.Option("--out", "-o", help="The file to write.")]

ModelFile = Annotated[Path, typer.Option(help="A model that `plada train` wrote.")]
Confusion = Annotated[Path | None, typer.Option(help="Write the confusion matrix as a picture (PNG).")]
SkipChanged = Annotated[
    bool,
    typer.Option("--skip-changed", help="Leave out images that are missing or changed since the manifest was made."),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="The server's manifest of the reference (a file): positions and hashes come from it. [default: one kept here]",
    ),
]
EncoderWeights = Annotated[
    Path | None, typer.Option(help="Where the encoder of a linear student lies now, if it has moved.")
]

# What a machine lacks, or does not allow, while a command runs.
_RESOURCES = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.EACCES, errno.EPERM, errno.ENOTDIR,
)  # fmt: skip


_UsageError: Any = typer.BadParameter.__mro__[1]  # Typer has Click's own class, or a copy of it, and exports neither


class PladaCommand(TyperCommand):
    """Turns what a user can cause into one line and the exit status of its class; its help is in panels."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words behind the command's name in its usage."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return ["[OPTIONS]", *map(argument_word, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options and examples."""
        write_options(self, ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PladaError as err:
            failure = err
        except KeyboardInterrupt:
            # What was begun anew must not be begun anew again.
            again = f"plada {shlex.join(part for part in sys.argv[1:] if part != '--restart')}"
            failure = Interrupted(f"{self.name}: stopped; what was finished is kept", resume=again)
        except MemoryError as err:
            failure = ResourceError(f"{self.name}: out of memory ({err}). Lower --batch-size or free memory")
        except RuntimeError as err:
            if device_failed(err):
                failure = ResourceError(
                    f"{self.name}: the GPU, or a library of it, failed ({first_line(err)}). `plada doctor` says what is installed; "
                    "run the same command again, or with --device cpu"
                )
            elif out_of_memory(err):
                reason = first_line(err).partition(". ")[0]
                failure = ResourceError(f"{self.name}: out of memory ({reason}). Lower the batch size, or --device cpu")
            else:
                raise
        except OSError as err:
            if isinstance(err, BrokenPipeError):
                if reader_left():
                    raise typer.Exit(READER_LEFT) from None
                raise RuntimeError(f"{self.name}: a pipe between plada's own processes broke") from err
            if err.errno not in _RESOURCES:
                raise
            failure = ResourceError(
                f"{self.name}: {err.strerror} ({err.filename or 'no file named'}). Free space, or choose a place that can be "
                "written, and run again"
            )
        _fail(failure, as_json=bool(ctx.params.get("as_json")))
        raise typer.Exit(failure.exit_code)


class PladaGroup(TyperGroup):
    """All commands; with --json a command line that cannot be understood is answered by an object, too. `plada help COMMAND` is
    `plada COMMAND --help`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in panels."""
        write_commands(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)

    def main(self, *args: Any, **options: Any) -> Any:
        words = args[0] if args else options.get("args")
        given = list(sys.argv[1:] if words is None else words)
        if given[:1] == ["help"]:
            given = [*given[1:], "--help"]
            args, options = (given, *args[1:]), {name: value for name, value in options.items() if name != "args"}
        if "--json" not in itertools.takewhile("--".__ne__, given):
            return super().main(*args, **options)
        try:
            sys.exit(super().main(*args, **options | {"standalone_mode": False}))
        except _UsageError as err:
            context: Any = getattr(err, "ctx", None)
            command = context.command_path if context is not None else "plada"
            reason = err.format_message().rstrip(".")
            failure = RequestError(f"{command}: {reason}. `{command} --help` lists what there is")
            _fail(failure, as_json=True)
            sys.exit(failure.exit_code)


def _fail(failure: PladaError, *, as_json: bool) -> None:
    if as_json:
        error = {"type": "error", "code": failure.exit_code, "kind": type(failure).__name__, "message": str(failure)}
        print(json.dumps(error), file=sys.stderr)
    else:
        print_line(f"plada: {' '.join(str(failure).split())}", error=True)


Json = Annotated[bool, typer.Option("--json", help="One JSON object a line; the last one is the summary.")]
# Taken by every command, also by those that are done at once: scripts need not know which.
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress, only results, remarks and errors.")]
Home = Annotated[
    Path | None,
    typer.Option(help="Where indexes and manifests are kept. [default: $PLADA_HOME or the user's data folder]"),
]
Device = Annotated[
    str | None, typer.Option(help="torch's name of a device: cpu, cuda, cuda:1. [default: a GPU if there is one]")
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of every random choice.")]
ModelArg = Annotated[
    list[str] | None, typer.Option("--model-arg", help="NAME=VALUE for the network, such as pad_type=same; repeatable.")
]
Weights = Annotated[Path | None, typer.Option(help="Weights of the network, a safetensors file.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Let timm download the weights of the network's tag.")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the square the network sees. [default: the weights' own]")]
RecipeOption = Annotated[
    list[str] | None,
    typer.Option("--recipe", help="NAME=VALUE of the training recipe, such as mirror=false or epochs=30; repeatable."),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        help="Your copy of the reference: a name or a path. [default: one known here that fits]",
        autocompletion=completing.references,
    ),
]
Adapt = Annotated[
    Path | None,
    typer.Option(
        help="A folder of your own unlabelled images, to correct predictions for the class frequencies there."
    ),
]
IndexOption = Annotated[
    str | None,
    typer.Option(
        help="Name, folder or URL (s3://...) of the index. [default: the only one]", autocompletion=completing.indexes
    ),
]
Engine = Annotated[
    str, typer.Option(help="local, or ray: the Ray cluster that Ray finds.", autocompletion=completing.engines)
]
Rate = Annotated[
    list[str] | None, typer.Option(help="Print the transmission time at this rate, such as 500bps; repeatable.")
]
SameKeys = Annotated[
    bool, typer.Option("--same-keys", help="Accept a re-encoded or resized copy: same keys, other bytes.")
]
PayloadFile = Annotated[
    str,
    typer.Argument(
        help="A .plada file, a URL of one, or the name of a task that was pulled.", autocompletion=completing.payloads
    ),
]
ClientHas = Annotated[
    str,
    typer.Option(
        help="What clients have in addition to the images: nothing, manifest (the image names) or pack. More makes smaller files.",
        autocompletion=completing.client_has,
    ),
]
PackFile = Annotated[Path | None, typer.Option("--pack", help="A pack's file. [default: the one that is installed]")]
Progressive = Annotated[
    str | None,
    typer.Option(
        help="Make each part of the file usable by itself: blocks (an even sample) or layers (the best first).",
        autocompletion=completing.progressive,
    ),
]
Segments = Annotated[
    int | None,
    typer.Option(min=1, help="Parts of a progressive file. [default: of blocks one for 200 images, 2 to 64; 2 layers]"),
]
SignWith = Annotated[Path | None, typer.Option("--sign", help="Sign the file with this private key (`plada keygen`).")]
Serial = Annotated[
    int, typer.Option(min=0, help="Serial number of the file, to grow with each one you send. [default: none]")
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Use the intact parts of a progressive file that is cut off or damaged.")
]
Update = Annotated[
    list[Path] | None, typer.Option("--update", help="A file of changes (`plada diff`) to apply first; repeatable.")
]
RequireSignature = Annotated[
    Path | None, typer.Option(help="A public key: refuse files that its owner has not signed.")
]
MinSerial = Annotated[int, typer.Option(min=0, help="Refuse a payload with a lower serial number, or none.")]


def pairs(texts: list[str] | None) -> dict[str, Any]:
    """NAME=VALUE options; a value that reads as JSON (a number, true, false) is taken as such, else as text."""
    pairs: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise RequestError(f"option '{text}': expected NAME=VALUE")
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs


def percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def seconds(stages: Any) -> str:
    return ", ".join(f"{stage} {spent:.1f}" for stage, spent in stages.items())


def evaluation_rows(evaluation: "Evaluation") -> list[list[str]]:
    """What a test found, as rows of a table."""
    interval = f"95 %: {evaluation.low:.1%} to {evaluation.high:.1%}; {evaluation.images} images"
    rows = [
        ["test accuracy", f"{evaluation.accuracy:.1%} ({interval})"],
        ["calibration", f"expected error {evaluation.ece:.1%}"],
    ]
    if confused := evaluation.confused(_CONFUSED):
        rows.append(["taken for another", ", ".join(f"{true} for {called} {n}" for true, called, n in confused)])
    if evaluation.unreadable:
        rows.append(["unreadable", f"{evaluation.unreadable} test images do not count"])
    return rows


def adaptation_line(adaptation: "Adaptation") -> str:
    """What a folder of pictures says of the classes there, in one line: the shares that differ most from the expected ones."""
    changed = sorted(
        zip(adaptation.shares, adaptation.expected, adaptation.classes, strict=True),
        key=lambda row: -abs(row[0] - row[1]),
    )
    shares = ", ".join(f"{name} {share:.1%} (expected {expected:.1%})" for share, expected, name in changed[:_SHARES])
    more = ", ..." if len(changed) > _SHARES else ""
    unreadable = f", {adaptation.unreadable} unreadable" if adaptation.unreadable else ""
    found = f"shares {shares}{more}; " if adaptation.p is not None else ""
    done = "answers are corrected by them" if adaptation.used else f"answers are not corrected: {adaptation.note}"
    if adaptation.calibrated and not adaptation.used:
        done = f"answers are calibrated, and not corrected by shares: {adaptation.note}"
    return f"adapt {adaptation.pool}: {adaptation.images} pictures{unreadable}; {found}{done}"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the work is done, and where indexes are kept."""

    device: Device = None
    home: Home = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command answers."""

    quiet: Quiet = False
    as_json: Json = False

    def reporter(self) -> AbstractContextManager[Report]:
        """Something to hand to a call as `report`."""
        return reporter(as_json=self.as_json, quiet=self.quiet)

    def first_sign(self, name: str) -> AbstractContextManager[object]:
        """Lets the command `name` say that it is starting, unless it is to be quiet."""
        return nullcontext() if self.quiet else FirstSign(name.replace("_", "-"), as_json=self.as_json)

    def is_dialogue(self) -> bool:
        """Whether a person can be asked: questions and answers are on a terminal. Nothing interrupts the question then."""
        end_first_sign()
        return not self.as_json and not self.quiet and sys.stdin.isatty() and sys.stderr.isatty()

    def wrote_json(self, summary: Mapping[str, Any]) -> bool:
        """Print the summary as JSON where that was asked for; whether it was."""
        if self.as_json:
            print_json("summary", summary)
        return self.as_json


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the fields of its option groups as parameters of their own, as Typer reads them."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(group := hints[name]):
            groups[name] = group
            types = get_type_hints(group, include_extras=True)
            for field in fields(group):
                parameters.append(
                    parameter.replace(name=field.name, kind=parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name])
                )  # fmt: skip
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        output = given.get("output")
        with output.first_sign(command.__name__) if isinstance(output, Output) else nullcontext():
            command(**given)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The weights that a network starts from, and how it is built."""

    weights: Weights = None
    pretrained: Pretrained = False
    model_arg: ModelArg = None
    image_size: ImageSize = None

    def spec(self, name: str) -> "plada.NetworkSpec":
        """The network of this name, for a call."""
        return plada.NetworkSpec(
            name=name, weights=self.weights, pretrained=self.pretrained, model_args=pairs(self.model_arg),
            image_size=self.image_size,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CopyOptions:
    """The client's copy of the reference."""

    reference: ReferenceOption = None
    same_keys: SameKeys = False
    skip_changed: SkipChanged = False
    manifest: ManifestOption = None

    def copy(self) -> "plada.ReferenceCopy":
        """The copy, for a call."""
        return plada.ReferenceCopy(
            location=self.reference, same_keys=self.same_keys, skip_changed=self.skip_changed, manifest=self.manifest
        )


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How a payload is read."""

    pack: PackFile = None
    partial: Partial = False
    update: Update = None
    require_signature: RequireSignature = None
    min_serial: MinSerial = 0

    def read(self) -> "plada.ReadOptions":
        """The options, for a call."""
        return plada.ReadOptions(**asdict(self) | {"update": self.update or ()})
