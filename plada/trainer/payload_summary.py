"""What a payload file is made of, read with what this machine knows beside it."""

from pathlib import Path

from plada.errors import SideMissing
from plada.payload.container import DIFF, read_container
from plada.payload.inspect import RATES, PayloadSummary, summarise, summarise_changes, summarise_unread
from plada.trainer.payload_context import PayloadContext, find_shared_context
from plada.trainer.payload_file import check_sender, fetch, naming, parse_with_context


def summarise_file(
    payload: str | Path,
    context: PayloadContext,
    *,
    rates: tuple[int, ...] = RATES,
    require_signature: str | Path | None = None,
) -> PayloadSummary:
    """What a payload file, or a file of changes, holds and where its bytes go; without what the labels need the rest is
    still said.

    Raises:
        RequestError: no such file. PayloadError: its subclass says what is wrong; SignatureError: not signed so.
    """
    data = fetch(payload, context.home)
    with naming(payload):
        proof = check_sender(data, require_signature, payload, context.home)
        if DIFF in read_container(data).sections:
            return summarise_changes(data, rates=rates)
        try:
            file = parse_with_context(data, context)
        except SideMissing as missing:
            if proof is not None:
                raise  # whose it is can be said only of what can be read
            return summarise_unread(data, missing=str(missing), rates=rates)
        if proof is not None:
            proof.check(file.payload)
        shared = find_shared_context(file.header, context, "pack" if file.header.pack_id else "manifest")
        return summarise(file, shared, rates=rates)
