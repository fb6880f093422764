"""The counts of a known collection compared with what is here. A wrong count is reported; it is no error."""

from collections.abc import Callable, Mapping
from typing import Any

from plada.common.units import group_digits
from plada.sources.catalogue.known import KnownDataset
from plada.sources.collection import first_at_least
from plada.sources.targets.target import Target


def target_count_note(known: KnownDataset, target: Target) -> str:
    """What differs from the known counts of a target, or which other known edition it is; empty if nothing differs."""
    train, test = len(target.train) + len(target.validation), len(target.test) if target.test is not None else 0

    def differences(splits: Mapping[str, int]) -> list[str]:
        if "all" in splits:  # any division of the right sum will do
            return _difference("images", train + test, splits["all"])
        expected = splits.get("train", 0) + splits.get("validation", 0)
        return _difference("training images", train, expected) + _difference("test images", test, splits.get("test", 0))

    return _note(known, differences, _difference("classes", len(target.classes), known.classes))


def source_count_note(known: KnownDataset, images: int, classes: int | None) -> str:
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
    at = count = 0
    while at < len(keys):
        top, slash, _ = keys[at].as_py().partition("/")
        if not slash:
            return None
        # "0" is the character behind "/": the first key from TOP0 on is no longer below this folder.
        at = first_at_least(keys, f"{top}0", at + 1)
        count += 1
    return count
