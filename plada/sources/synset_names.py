"""Names of the synsets that keys begin with: ImageNet's words.txt, or another file of that form.

A line is a synset, a tab and its names, commas between: `n01443537<TAB>goldfish, Carassius auratus`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from plada.errors import DataError

FILE = "words.txt"  # beside a reference's images, or one folder above
MAX_BYTES, MAX_NAME = 16 << 20, 200  # of a file; letters of a name that are kept
_BETWEEN = re.compile(r"[/_.]")


def read_synset_names(path: str | Path) -> dict[str, str]:
    """The first name of each synset of a file.

    Args:
        path: A text file, UTF-8, of at most MAX_BYTES.

    Returns:
        Synset -> its first name.

    Raises:
        DataError: The file cannot be read, is too large, is not UTF-8, or has another form.
    """
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size} bytes; a file of names has at most {MAX_BYTES}. Name another file")
        text = Path(path).read_text("utf-8-sig")
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror}). Name a file of synsets and their names") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8. Save it as UTF-8") from None
    names: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        synset, tab, words = line.partition("\t")
        name = words.split(",")[0].strip()
        if not tab or not synset.strip() or not name:
            raise DataError(
                f"{path}, line {number}: expected a synset, a tab and its names (n01443537<TAB>goldfish), found {line[:40]!r}"
            )
        names.setdefault(synset.strip(), name[:MAX_NAME])
    return names


def find_synset_names(location: str | Path, file: str | Path | None = None) -> dict[str, str]:
    """The names in `file`, else in the FILE beside the images at `location` or one folder above; none where there is no such file.

    Raises:
        DataError: `file` is not such a file. A FILE that nobody named and that cannot be read is passed over.
    """
    if file is not None:
        return read_synset_names(file)
    if not Path(location).exists():  # a URL, or made by the program
        return {}
    for folder in (Path(location), Path(location).parent):
        if (folder / FILE).is_file():
            try:
                return read_synset_names(folder / FILE)
            except DataError:
                continue
    return {}


def name_key(key: str, names: Mapping[str, str]) -> str:
    """The name of the synset in an image's key, "" where there is none.

    >>> name_key("train/n01443537/n01443537_10.JPEG", {"n01443537": "goldfish"})
    'goldfish'
    """
    return next((names[part] for part in _BETWEEN.split(key[:300]) if part in names), "") if names else ""
