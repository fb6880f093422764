"""A sender writes what its clients can read, in the form that was chosen."""

import pytest

from plada.payload.container import Signer
from plada.payload.payload import parse_payload
from plada.payload.sender import Sender
from plada.payload.shared_context import SharedContext
from tests.payload.payloads import folders, made, same


@pytest.mark.parametrize("progressive", [None, "blocks"])
@pytest.mark.parametrize("shared", [SharedContext(), folders()])
@pytest.mark.parametrize("signer", [None, Signer(b"abcd", lambda _: bytes(64))])
def test_the_size_is_that_of_the_file(progressive: str | None, shared: SharedContext, signer: Signer | None) -> None:
    sender = Sender(shared=shared, progressive=progressive, signer=signer)
    data = sender.encode(made())
    assert sender.size(made()) == len(data)
    file = parse_payload(data, shared=shared)
    assert same(file.payload, made())
    assert (file.signature is None) == (signer is None)
    assert sender.coder(made()) == made().coder(shared=shared)
