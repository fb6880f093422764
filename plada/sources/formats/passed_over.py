"""What a listing passes over: files that are no images by their ending, counted, and how to go on with them."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

_ENDING = re.compile(r"(\.tar)?\.[^./]+$", re.IGNORECASE)
_LITTER = frozenset({"thumbs.db", "desktop.ini"})  # hidden names, which others leave behind, do not even come here
_SHOWN = 6  # endings of one remark
_JPEG = frozenset({".jfif", ".jif", ".jfi", ".jpe"})
_UNREAD = frozenset(
    [".avif", ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".svg", ".psd", ".dng", ".npy", ".npz"]
)
_UNPACKERS = {".gz": "gunzip -k", ".tgz": "gunzip -k", ".bz2": "bunzip2 -k", ".tbz2": "bunzip2 -k", ".xz": "unxz -k"}
_UNPACKERS |= {".txz": "unxz -k", ".zst": "unzstd"}
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tgz", ".tbz2", ".txz")


@dataclass
class PassedOver:
    """Counts by ending, in lower case (`.tar.gz` is one ending), and the first file with each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, times: int = 1, ending: str | None = None) -> None:
        """Count a file, or `times` files of one ending of which `path` is the first."""
        if path.rpartition("/")[2].lower() not in _LITTER:
            ending = ending_of(path) if ending is None else ending
            self.counts[ending] += times
            self.examples.setdefault(ending, path)

    def add_members(self, names: Any, archive: str) -> None:
        """Count the members of an archive, paths as a pyarrow string array."""
        if not len(names):
            return
        endings = pc.utf8_lower(pc.replace_substring_regex(names, r"(?is)^.*?((?:\.tar)?\.[^./]+)?$", r"\1"))
        for entry in pc.value_counts(endings).to_pylist():
            first = names[pc.index(endings, entry["values"]).as_py()].as_py()
            self.add(f"{archive}/{first}", entry["counts"], entry["values"])

    def text(self) -> str:
        """One remark; empty where nothing was passed over."""
        if not self.counts:
            return ""
        shown = [f"{count} {ending or 'without an ending'}" for ending, count in self.counts.most_common(_SHOWN)]
        more = f" and {len(self.counts) - _SHOWN} other endings" if len(self.counts) > _SHOWN else ""
        example = self.examples[self.counts.most_common(1)[0][0]]
        advice = self.advice()
        return f"passed over {', '.join(shown)}{more}, such as {example}{'. ' if advice else ''}{advice}"

    def advice(self) -> str:
        """How to go on with what could hold images."""
        return "; ".join(dict.fromkeys(line for ending in self.counts if (line := advice(self.examples[ending]))))


def ending_of(path: str) -> str:
    """The ending of a file's name in lower case: `.tar.gz` of `a.TAR.gz`, empty where there is none."""
    name = path.rpartition("/")[2]
    match = _ENDING.search(name, 1)
    return match[0].lower() if match else ""


def advice(path: str) -> str:
    """How images get out of a file of this name; empty where nothing says that it holds any."""
    ending = ending_of(path)
    if ending in _JPEG:
        return f"{ending} is JPEG under another name: rename to .jpg"
    if ending in _UNREAD:
        return f"{ending} is not read: save as PNG or JPEG"
    if ending == ".zip":
        return f"{ending} is an archive: give zip://::FILE, or unpack it"
    if ending == ".tar":
        return "a tar inside a tar is read where the outer one holds tars alone: unpack it, or take it out"
    if ending == ".arrow":
        return (
            ".arrow is how Hugging Face's save_to_disk writes: convert once with "
            "datasets.load_from_disk(FOLDER).to_parquet(FILE), a split at a time"
        )
    if ending == ".parquet":
        return "to read .parquet instead, say parquet:PLACE"
    if ending in (".7z", ".rar"):
        return f"{ending} is an archive: unpack it"
    tool = _UNPACKERS.get("." + ending.rpartition(".")[2])
    return f"{ending} is compressed: unpack it once with `{tool} FILE`; a tar is then read as it is" if tool else ""
