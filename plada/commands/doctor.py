"""The command `plada doctor`."""

import plada
from plada.commands.console.options import Home, Output
from plada.commands.console.output import print_line, print_table
from plada.common.units import format_size


def doctor(*, home: Home = None, output: Output) -> None:
    """Report the installed packages, devices and indexes, and how to install what is missing."""
    diagnosis = plada.doctor(home=home)
    if output.wrote_json(diagnosis.to_dict()):
        return
    rows = [[p.name, p.version or "-", p.problem or "loads"] for p in diagnosis.packages]
    print_table(rows, head=("package", "version", "state"))
    print_table(
        [
            ["plada", f"{diagnosis.plada}, Python {diagnosis.python}, {diagnosis.machine}, {diagnosis.processors} processors"],
            ["torch sees", ", ".join(diagnosis.torch_devices) or "nothing; torch is not there"],
            ["FAISS sees", "nothing; FAISS is not there" if diagnosis.faiss_gpus is None else f"the CPU and {diagnosis.faiss_gpus} GPUs"],
            ["home", f"{diagnosis.home}, {format_size(diagnosis.free_bytes)} free"],
            ["indexes", ", ".join(diagnosis.indexes) or "none yet"],
        ]
    )  # fmt: skip
    for line in diagnosis.advice:
        print_line(line)
    if not diagnosis.advice:
        print_line("all is well")
