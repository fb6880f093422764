"""A payload on its way out: for which clients, in which form, signed by whom. Lies beside api.py."""

from pathlib import Path

from plada.common.files import home_directory, write_bytes
from plada.payload.container import Header
from plada.payload.payload import Payload
from plada.payload.sender import Sender
from plada.payload.signature import load_signer
from plada.trainer.payload_file import Around, side_for


def sender_for(
    header: Header,
    *,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    progressive: str | None = None,
    segments: int | None = None,
    sign: str | Path | None = None,
    home: str | Path | None = None,
) -> Sender:
    """The sender of payloads with a header like this one, whose reference and key ids are looked at.

    `client_has` says what clients hold beside the images: nothing, manifest (the keys; every client that indexed or
    verified its copy has them), or pack. `pack` is a pack's file, else an installed one; `sign` a private key's file.

    Raises:
        RequestError: no such kind of client, no such file. SideMissing: there is no pack. MissingExtra: no cryptography.
    """
    signer = None
    if sign is not None:
        signer = load_signer(sign)
    side = side_for(header, Around(home=home_directory(home), pack=pack), client_has)
    return Sender(side=side, progressive=progressive, segments=segments, signer=signer)


def write_payload(
    payload: Payload,
    out: str | Path,
    *,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    progressive: str | None = None,
    segments: int | None = None,
    sign: str | Path | None = None,
    home: str | Path | None = None,
) -> int:
    """Write a payload for clients that hold the reference, whole or not at all; returns its bytes.

    Unlike `Payload.save` this uses what is known of the reference on this machine (a manifest kept in `home`, a pack).
    Options and errors are those of sender_for.
    """
    sender = sender_for(
        payload.header(), client_has=client_has, pack=pack, progressive=progressive, segments=segments, sign=sign,
        home=home,
    )  # fmt: skip
    data = sender.encode(payload)
    write_bytes(Path(out), data)
    return len(data)


def encoded_size(
    payload: Payload,
    *,
    client_has: str = "manifest",
    pack: str | Path | None = None,
    progressive: str | None = None,
    segments: int | None = None,
    sign: str | Path | None = None,
    home: str | Path | None = None,
) -> int:
    """Bytes of the file that `write_payload` would write, exactly. For many sizes make one `sender_for` and ask it."""
    sender = sender_for(
        payload.header(), client_has=client_has, pack=pack, progressive=progressive, segments=segments, sign=sign,
        home=home,
    )  # fmt: skip
    return sender.size(payload)
