"""Folders that are parts of a split, whatever they are called: `Train/`, `training_set/`, `seg_test/`, `dev/`.

A name is read word by word. One that says `train`, `test` or `validation` and nothing else is a part. So is one with other
words, if another part has the same ones: `seg_train/` and `seg_test/`. What only looks like a part is refused, since its
folders would become classes or be lost.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from plada.errors import RequestError
from plada.sources.collection import is_image_name
from plada.sources.storage import LITTER

TRAIN, VALIDATION, TEST, EVALUATION, UNLABELLED = "train", "validation", "test", "eval", "pred"
# `eval` is the test where there is no other, as for Hugging Face's data sets; else it is the validation.
WORDS = {
    "train": TRAIN, "training": TRAIN, "trainval": TRAIN,
    "validation": VALIDATION, "validate": VALIDATION, "valid": VALIDATION, "val": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
    "eval": EVALUATION, "evaluation": EVALUATION,
    "pred": UNLABELLED, "prediction": UNLABELLED, "predictions": UNLABELLED, "unlabeled": UNLABELLED, "unlabelled": UNLABELLED,
}  # fmt: skip
_FILLING = frozenset(
    ["set", "sets", "data", "dataset", "image", "images", "img", "imgs", "split", "folder", "dir"]
)  # words that say nothing
_JOINED = re.compile(
    rf"^({'|'.join(sorted(WORDS, key=len, reverse=True))})({'|'.join(sorted(_FILLING, key=len, reverse=True))})$"
)
_USUAL = frozenset(["train", "test", "validation", "valid", "val"])
_MAX_WRAPPERS = 3  # folders of a part's own name within each other: seg_train/seg_train/


@dataclass(frozen=True, slots=True)
class SplitFolders:
    """The folder of each part, and what is to be said of them."""

    train: Path
    validation: Path | None
    test: Path | None
    note: str


@dataclass(frozen=True, slots=True)
class _Sorted:
    """Folders of a root by what their names say: `parts` by kind, `doubtful` ones look like parts, `others` do not."""

    parts: dict[str, list[Path]] = field(default_factory=dict)
    doubtful: list[tuple[str, Path]] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def visible_folders(root: Path) -> list[Path]:
    """Folders directly below a folder, by name, without hidden ones and what archives add."""
    return sorted(path for path in root.iterdir() if path.name[0] != "." and path.name != LITTER and path.is_dir())


def read_name(name: str) -> tuple[str | None, tuple[str, ...]]:
    """(kind of part, other words) of a folder's name; the kind is None where it says none, or two."""
    words = re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name))
    kinds, others = [], []
    for word in (word.casefold() for word in words):
        joined = _JOINED.match(word)
        if joined is not None or word in WORDS:
            kinds.append(WORDS[joined[1] if joined is not None else word])
        elif word not in _FILLING:
            others.append(word)
    return kinds[0] if len(kinds) == 1 else None, tuple(others)


def looks_split(root: Path) -> bool:
    """Whether folders below a folder are parts of a split, or look like it."""
    if not root.is_dir():
        return False
    found = _sort(root)
    return bool(found.doubtful or set(found.parts) - {UNLABELLED})


def find_split_folders(root: Path) -> SplitFolders:
    """The parts of a target whose folders look split. Raises RequestError: no training part, two folders for one part,
    or one that looks like a part and is not understood."""
    found = _sort(root)
    parts = {kind: folders[0] for kind, folders in found.parts.items()}
    for kind, folders in found.parts.items():
        if len(folders) > 1 and kind != UNLABELLED:
            raise RequestError(
                f"{root}: {folders[0].name}/ and {folders[1].name}/ are both the {kind} part of a split. Join them, or rename one"
            )
    if EVALUATION in parts:
        parts[
            VALIDATION if TEST in parts and VALIDATION not in parts else TEST if TEST not in parts else EVALUATION
        ] = parts.pop(EVALUATION)
    if EVALUATION in parts:
        raise RequestError(
            f"{root}: {parts[EVALUATION].name}/ is a third part beside {parts[TEST].name}/ and {parts[VALIDATION].name}/. "
            "Join it with one of them, or move it away"
        )
    for kind, folder in found.doubtful:
        if kind not in parts:
            raise RequestError(
                f"{root}: {folder.name}/ looks like a part of a split and is not understood; expected {_expected()}. Rename "
                "it, or move it away"
            )
    if TRAIN not in parts:
        named = "/, ".join(folder.name for folder in parts.values())
        raise RequestError(
            f"{root}: {named}/ looks like a part of a split, but there is no train/ beside it. Add it, or rename what is a class"
        )
    remarks = [
        f"{kind}: {parts[kind].name}/"
        for kind in (TRAIN, VALIDATION, TEST)
        if kind in parts and parts[kind].name not in _USUAL
    ]
    left = [*found.parts.get(UNLABELLED, []), *(folder for _, folder in found.doubtful), *found.others]
    if left:
        remarks.append(
            f"left out: {', '.join(f'{folder.name}/' for folder in sorted(left)[:3])}{', ...' * (len(left) > 3)}"
        )
    places = {kind: _unwrapped(folder) for kind, folder in parts.items()}
    return SplitFolders(places[TRAIN], places.get(VALIDATION), places.get(TEST), "; ".join(remarks))


def _expected() -> str:
    return "a name such as train, validation or test, or the same words before or behind each of them"


def _sort(root: Path) -> _Sorted:
    found = _Sorted()
    read = [(folder, *read_name(folder.name)) for folder in visible_folders(root)]
    kinds_of: dict[tuple[str, ...], set[str]] = {}  # by the words beside them
    for _, kind, words in read:
        if kind is not None:
            kinds_of.setdefault(words, set()).add(kind)
    # Words that only one kind of part has say what a class is: a test tube, a bullet train.
    shared = {words for words, kinds in kinds_of.items() if not words or (TRAIN in kinds and len(kinds) > 1)}
    if TRAIN in kinds_of.get((), set()):
        shared = {()}  # beside train/ and test/, train_masks/ and test_masks/ are something else
    any_train = any(kind == TRAIN and words in shared for _, kind, words in read)
    for folder, kind, words in read:
        if kind is None:
            found.others.append(folder)
        elif words in shared and (kind != UNLABELLED or any_train):
            found.parts.setdefault(kind, []).append(folder)
        elif kind != UNLABELLED and (any_train or (all(word.isdigit() for word in words) and words)):
            found.doubtful.append((kind, folder))
        else:
            found.others.append(folder)
    return found


def _unwrapped(folder: Path) -> Path:
    """The folder of classes: where an archive holds a part as seg_train/seg_train/, the inner one."""
    kind = read_name(folder.name)[0]
    for _ in range(_MAX_WRAPPERS):
        inner = visible_folders(folder)
        loose = any(is_image_name(path.name) and path.is_file() for path in folder.iterdir())
        if len(inner) != 1 or loose or read_name(inner[0].name)[0] != kind:
            break
        folder = inner[0]
    return folder
