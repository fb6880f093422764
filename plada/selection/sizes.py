"""What a selection costs: the one place that knows how its file is coded."""

from plada.errors import UnknownName
from plada.payload.payload import Payload

CLIENT_HAS = ("manifest", "pack")


def check_client(client_has: str) -> str:
    """The word itself.

    Raises:
        UnknownName: neither manifest nor pack.
    """
    if client_has not in CLIENT_HAS:
        raise UnknownName("thing that a client has", client_has, CLIENT_HAS)
    return client_has


def file_bytes(payload: Payload) -> int:
    """Bytes of the whole file, header, names and notes included."""
    return len(payload.encode())
