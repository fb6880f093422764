"""Whether a known collection holds what it should: a wrong count is said, never hidden, and never an error by itself."""

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plada.common.units import group_digits
from plada.sources.catalogue.known import KnownDataset
from plada.sources.targets.target import Target


def count_note(known: KnownDataset, target: Target) -> str:
    """What differs from the known counts of a target; or which other known edition this is; empty if it is as known."""
    train, test = len(target.train) + len(target.validation), len(target.test) if target.test is not None else 0

    def differences(splits: Mapping[str, int]) -> list[str]:
        if "all" in splits:  # any division of the right sum will do
            return _difference("images", train + test, splits["all"])
        expected = splits.get("train", 0) + splits.get("validation", 0)
        return _difference("training images", train, expected) + _difference("test images", test, splits.get("test", 0))

    return _note(known, differences, _difference("classes", len(target.classes), known.classes))


def source_note(known: KnownDataset, images: int, classes: int | None) -> str:
    """The same for a reference; `classes` None where they are not counted or the keys do not tell them."""

    def differences(splits: Mapping[str, int]) -> list[str]:
        return _difference("images", images, known.images if splits is known.splits else sum(splits.values()))

    return _note(known, differences, _difference("classes", classes, known.classes))


def _note(known: KnownDataset, differences: Callable[[Mapping[str, int]], list[str]], classes: list[str]) -> str:
    edition = next((name for name, splits in known.also.items() if not differences(splits) + classes), "")
    wrong = differences(known.splits) + classes
    if not wrong:
        return ""
    return f"counts of {edition}" if edition else f"not the known counts: {', '.join(wrong)}"


def _difference(what: str, found: int | None, known: int | None) -> list[str]:
    if found is None or known is None or found == known:
        return []
    return [f"{group_digits(found)} of {group_digits(known)} {what}"]


def class_count(keys: Any) -> int | None:
    """How many top folders sorted keys (pyarrow strings [N]) have; None where images lie outside folders."""
    view = _Texts(keys)
    at = count = 0
    while at < len(view):
        top, slash, _ = view[at].partition("/")
        if not slash:
            return None
        # The sign behind "/" begins the first key that is no longer below this folder.
        at = bisect.bisect_left(view, f"{top}0", lo=at + 1)
        count += 1
    return count


class _Texts(Sequence[str]):
    """pyarrow strings as Python's, one at a time."""

    def __init__(self, keys: Any) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: Any) -> Any:
        return self.keys[index].as_py()
