"""The command line: registers what is in commands/, nothing else."""

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from plada.commands.bench import bench
from plada.commands.catalogue.publish import publish
from plada.commands.catalogue.pull import pull
from plada.commands.console.options import PladaCommand, PladaGroup, with_options
from plada.commands.console.pipes import run_command
from plada.commands.datasets import datasets
from plada.commands.demo import demo
from plada.commands.diff import apply_diff, diff
from plada.commands.doctor import doctor
from plada.commands.evaluate import evaluate
from plada.commands.explore import explore
from plada.commands.export import export
from plada.commands.index import index
from plada.commands.inspect import inspect
from plada.commands.keeping.cache import cache
from plada.commands.keeping.indexes import indexes
from plada.commands.pack import install_pack
from plada.commands.predict import predict
from plada.commands.report import report
from plada.commands.search import search
from plada.commands.select import select
from plada.commands.settings.config import config
from plada.commands.settings.encoders import encoders
from plada.commands.sign import keygen, sign
from plada.commands.train import train
from plada.commands.verify import verify
from plada.common.version import __version__

COMMANDS: dict[str, Callable[..., None]] = {  # in the order of the help
    "index": index,
    "install-pack": install_pack,
    "select": select,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "export": export,
    "inspect": inspect,
    "report": report,
    "bench": bench,
    "diff": diff,
    "apply": apply_diff,
    "keygen": keygen,
    "sign": sign,
    "publish": publish,
    "pull": pull,
    "verify": verify,
    "search": search,
    "explore": explore,
    "indexes": indexes,
    "cache": cache,
    "datasets": datasets,
    "encoders": encoders,
    "config": config,
    "demo": demo,
    "doctor": doctor,
}

app = typer.Typer(
    name="plada",
    cls=PladaGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich takes "[default: ...]" for markup and leaves it out
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ship a classification task as labels for images that every client already holds.",
)
for name, command in COMMANDS.items():
    app.command(name, cls=PladaCommand)(with_options(command))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"plada {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ship a classification task as labels for images that every client already holds."""


def main() -> None:
    """The `plada` command. A polite kill is treated as Ctrl-C, so that it too leaves everything resumable."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_command(lambda: app(prog_name="plada")))  # also as `python -m plada`: completion goes by the name


if __name__ == "__main__":
    main()
