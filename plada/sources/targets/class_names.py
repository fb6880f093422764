"""Class names that the publishers' files leave out, in the order of the class numbers, by data set."""

import json
from importlib.resources import files

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    name: tuple(classes)
    for name, classes in json.loads(
        files("plada.sources.targets").joinpath("class_names.json").read_text("utf-8")
    ).items()
}
