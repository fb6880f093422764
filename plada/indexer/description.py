"""What index.json and building.json say of a build, and how two builds differ."""

import json
from typing import Any

from plada.common.checksums import is_sealed
from plada.errors import DataError

FORMAT = 3  # 1 had no fingerprints, 2 no checksum of its own; both are still read
AGAIN = "Run `plada index` again with --restart"


def checked_json(data: bytes, place: str, remedy: str = AGAIN) -> dict[str, Any]:
    """What the bytes of one of a store's JSON files say.

    Raises:
        DataError: damaged, or written by a newer plada; `place` says where, `remedy` what to do.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise DataError(f"{place}: cannot be read ({err}). {remedy}") from err
    if not isinstance(value, dict) or not isinstance(value.get("format"), int):
        raise DataError(f"{place}: not a plada index. {remedy}")
    if value["format"] > FORMAT:
        raise DataError(f"{place}: index of format {value['format']}; this plada reads {FORMAT}. Install a newer plada")
    if (value["format"] >= 3 or "digest" in value) and not is_sealed(value):
        raise DataError(
            f"{place}: its checksum is wrong; it is damaged. Restore it, or {remedy[0].lower()}{remedy[1:]}"
        )
    return value


def plan_difference(one: dict[str, Any], other: dict[str, Any], name: str = "") -> str:
    """The first thing in which two plans differ, in words; empty where they are of the same build."""
    # "images" is there to be read by people, and only "key_id" decides; "table" is where it is written.
    keys = sorted((one.keys() | other.keys()) - {"table", "digest"}, key=lambda key: (key != "images", key))
    for key in keys:
        was, now = one.get(key), other.get(key)
        if was == now or (key == "images" and was is None):
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            return plan_difference(was, now, f"{name}{key}.")
        return f"{name}{key} is {was}, now {now}"
    return ""
