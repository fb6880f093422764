"""Dataclasses of results: as plain values for JSON, and made from one another."""

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Summary:
    """The base of result dataclasses: their fields are what `--json` prints."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)


def shared_fields(value: Any, kind: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass instance that the dataclass `kind` has too, as arguments for it."""
    own = {each.name for each in fields(value)}
    return {each.name: getattr(value, each.name) for each in fields(kind) if each.name in own}
