"""`plada.inspect`: what a payload file holds and where its bytes go, with or without the reference."""

from collections.abc import Sequence
from pathlib import Path

from plada.common.files import home_directory
from plada.common.units import parse_rate
from plada.payload.inspect import RATES, PayloadSummary
from plada.trainer.payload_file import PayloadContext
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
    """What a payload file, or a file of changes, holds and where its bytes go.

    Time on air is given for each `rate` (such as 500bps). Without the reference's manifest (in `home`, or through
    `reference`) or the pack that the labels need, the rest is still said. `require_signature`: a public key that must
    have signed it.

    Raises:
        RequestError: no such file. PayloadError: its subclass says what is wrong; SignatureError: not signed so.
    """
    rates = tuple(parse_rate(text) for text in rate) or RATES
    around = PayloadContext(home=home_directory(home), reference=reference, pack=pack)
    return summarise_file(payload, around, rates=rates, require_signature=require_signature)
