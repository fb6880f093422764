"""`plada.inspect`: what a payload file holds and where its bytes go, with or without the reference."""

from collections.abc import Sequence
from pathlib import Path

from plada.common.files import home_directory
from plada.common.units import parse_rate
from plada.payload.inspect import RATES, PayloadSummary
from plada.trainer.payload_context import PayloadContext
from plada.trainer.payload_summary import summarise_file


def inspect(
    payload: str | Path,
    *,
    rate: Sequence[str | int] = (),
    reference: str | Path | None = None,
    pack: str | Path | None = None,
    require_signature: str | Path | None = None,
    home: str | Path | None = None,
) -> PayloadSummary:
    """Say what a payload file, or a file of changes, holds and where its bytes go.

    Without the reference's manifest or the pack that the labels need, the rest is still said.

    Args:
        payload: The file, a path or URL, or the name of a task that was pulled.
        rate: Rates to give the time on air for, such as "500bps", or in bits a second; () for three usual ones.
        reference: Name or place of the images; None where a manifest kept here knows their keys.
        pack: A pack's file; None stands for the pack that is installed for the reference.
        require_signature: A public key that must have signed the file; None demands none.
        home: Where manifests and packs are kept; None for the usual place.

    Returns:
        Bytes of every part, coders and their sizes, entropies, notes, ids, signature.

    Raises:
        RequestError: There is no such file, or a rate is none.
        PayloadError: Its subclass says what is wrong with the file; SignatureError: it is not signed as demanded.
        ReferenceMismatch: `reference` or the pack is another one.

    Examples:
        >>> import plada
        >>> summary = plada.inspect("digits.plada", rate=["500bps"])
        >>> summary.bytes <= 400
        True
    """
    rates = tuple(parse_rate(text) for text in rate) or RATES
    context = PayloadContext(home=home_directory(home), reference=reference, pack=pack)
    return summarise_file(payload, context, rates=rates, require_signature=require_signature)
