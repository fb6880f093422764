"""Files that say how many they are: train-00001-of-00003.parquet, imagenet-train-0000-of-1024.tar."""

import re
from collections.abc import Iterable

from plada.errors import DataError

INCOMPLETE = "incomplete"  # before a place: files that are missing are meant to be
_NUMBER = re.compile(r"[-_.](\d+)([-_.]of[-_.])(\d+)(?!\d)")
_SHOWN = 3  # missing files that a message names


def missing_files(paths: Iterable[str]) -> str:
    """What is missing of the files that some paths speak of, in words; empty where nothing is. Numbers begin at 0 or 1."""
    groups: dict[tuple[str, int], dict[int, str]] = {}
    for path in paths:
        if (match := _NUMBER.search(path, path.rfind("/") + 1)) is not None:
            groups.setdefault((path[: match.start()], int(match[3])), {})[int(match[1])] = path
    lines = []
    for (_, total), files in groups.items():
        first = 1 if total in files and 0 not in files else 0
        lost = total - len(files.keys() & set(range(first, first + total)))
        if lost:
            numbers = (number for number in range(first, first + total) if number not in files)
            named = [
                _renumbered(next(iter(files.values())), number)
                for number, _ in zip(numbers, range(_SHOWN), strict=False)
            ]
            lines.append(f"{lost} of {total} ({', '.join(named)}{', ...' * (lost > len(named))})")
    return ", ".join(lines)


def accept_missing(where: str, paths: Iterable[str], incomplete: bool) -> str:
    """What is missing, where `incomplete` says that this is meant. Raises DataError: it does not say so."""
    text = missing_files(paths)
    if text and not incomplete:
        raise DataError(
            f"{where}: files are missing: {text}. Fetch them; or go on without them: {INCOMPLETE}:{where}, or --incomplete with plada index"
        )
    return f"files are missing: {text}" if text else ""


def _renumbered(path: str, number: int) -> str:
    """The path of another file of the same group; what stands behind the number may differ, and is left out."""
    match = _NUMBER.search(path, path.rfind("/") + 1)
    assert match is not None
    digits = str(number).zfill(len(match[1]))
    return f"{path[: match.start(1)]}{digits}{match[2]}{match[3]}"
