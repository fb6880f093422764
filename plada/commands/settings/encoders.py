"""The command `plada encoders`."""

import plada
from plada.commands.console.options import Output
from plada.commands.console.output import print_table


def encoders(*, output: Output) -> None:
    """List encoders that have a short name, with their size, dimension, rate and published accuracy."""
    found = plada.known_encoders()
    if output.wrote_json({"encoders": [each.to_dict() for each in found]}):
        return
    rows = [
        [
            each.short, each.name, str(each.megabytes), str(each.dimension), str(each.rate or "-"),
            f"{each.accuracy} {each.measure}" if each.accuracy is not None else "-", "yes" if each.text else "",
        ]
        for each in found
    ]  # fmt: skip
    print_table(rows, head=("short", "encoder", "MB", "numbers", "images/s (RTX 4090)", "ImageNet, %", "words"))
