"""Class names that the publishers' files leave out, in the order of the class numbers, by data set."""

import json
from importlib.resources import files

_FILE = files("plada.sources.targets").joinpath("class_names.json")
CLASS_NAMES = {name: tuple(classes) for name, classes in json.loads(_FILE.read_text("utf-8")).items()}
