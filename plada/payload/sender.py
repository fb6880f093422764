"""How payloads are delivered: what clients know beside them, in which form they go, and who signs them."""

from dataclasses import dataclass
from pathlib import Path

from plada.payload.container import Signer
from plada.payload.payload import Payload
from plada.payload.shared_context import SharedContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How a payload is delivered.

    Attributes:
        client_has: What clients hold beside the images: "nothing", "manifest" (the images' keys; every client that indexed
            or verified its copy has them) or "pack".
        pack: A pack's file; None stands for the pack that is installed for the reference.
        progressive: None, or "blocks" or "layers": any part of the file is worth something.
        segments: Parts of a progressive file; None lets the payload's size decide.
        sign: File of an Ed25519 private key that signs the payload; None leaves it unsigned.
        serial: Serial number, to grow with each payload that is sent; 0 for none.
        calibration: Send how a linear student on the index's encoder has to be corrected on the target's images, about a byte a class:
            clients that have this encoder can adapt it to their own pictures. Only `plada.select` can measure it.

    Examples:
        >>> import plada
        >>> payload = plada.read_payload("digits.plada")
        >>> plada.encoded_size(payload, delivery=plada.Delivery(client_has="nothing")) > 0
        True
    """

    client_has: str = "manifest"
    pack: str | Path | None = None
    progressive: str | None = None
    segments: int | None = None
    sign: str | Path | None = None
    serial: int = 0
    calibration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Writes payloads of one reference: `shared` is what clients know, `progressive` and `segments` the form, `signer` signs."""

    shared: SharedContext
    progressive: str | None = None
    segments: int | None = None
    signer: Signer | None = None

    def size(self, payload: Payload) -> int:
        """Bytes of the whole file, exactly."""
        if self.progressive is None:
            return payload.size(shared=self.shared, signed=self.signer is not None)
        return len(self.encode(payload))

    def encode(self, payload: Payload) -> bytes:
        """The whole file."""
        return payload.encode(
            shared=self.shared, progressive=self.progressive, segments=self.segments, signer=self.signer
        )

    def coder(self, payload: Payload) -> str:
        """Name of the coder that the labels are written with."""
        return payload.coder(shared=self.shared)
