"""The command `plada doctor`."""

import plada
from plada.commands.console.options import Home, Json, Quiet
from plada.commands.console.output import print_json, print_table
from plada.common.units import format_size


def doctor(home: Home = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Report what is installed, what it sees, and what to install for what is missing."""
    found = plada.doctor(home=home)
    if as_json:
        return print_json("summary", found.to_dict())
    rows = [[p.name, p.version or "-", p.problem or "loads"] for p in found.packages]
    print_table(rows, head=("package", "version", "state"))
    print_table(
        [
            ["plada", f"{found.plada}, Python {found.python}, {found.machine}, {found.processors} processors"],
            ["torch sees", ", ".join(found.torch_devices) or "nothing; torch is not there"],
            ["FAISS sees", "nothing; FAISS is not there" if found.faiss_gpus is None else f"the CPU and {found.faiss_gpus} GPUs"],
            ["home", f"{found.home}, {format_size(found.free_bytes)} free"],
            ["indexes", ", ".join(found.indexes) or "none yet"],
        ]
    )  # fmt: skip
    for line in found.advice:
        print(line)
    if not found.advice:
        print("all is well")
    return None
