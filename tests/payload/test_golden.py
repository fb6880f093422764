"""Golden files, good and bad, decode as they did when they were written, for good."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plada.errors import PayloadCorrupt, PayloadError, PayloadTruncated, PayloadUnsupported
from plada.payload.coders.registry import CODERS
from plada.payload.diff import apply_changes, parse_changes
from plada.payload.payload import Payload, parse_payload
from plada.payload.shared_context import SharedContext

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
KINDS = {"truncated": PayloadTruncated, "unsupported": PayloadUnsupported, "corrupt": PayloadCorrupt}
BAD: dict[str, str] = json.loads((GOLDEN / "bad" / "bad.json").read_text())
GOOD = sorted(path.stem for path in GOLDEN.glob("v2-*.plada"))


def known() -> SharedContext:
    said = json.loads((GOLDEN / "reference.json").read_text())
    features = np.frombuffer((GOLDEN / said["features"]).read_bytes(), np.int8).reshape(-1, said["dimensions"])
    return SharedContext(np.array(said["blocks"]), features, bytes.fromhex(said["pack_id"]))


def expected(name: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return expected(said["same_as"]) if "same_as" in said else said


def decoded(name: str) -> Payload:
    data = (GOLDEN / f"{name}.plada").read_bytes()
    said = expected(name)
    if "old" in said:
        return apply_changes(decoded(said["old"]), parse_changes(data), shared=known())
    return parse_payload(data, shared=known()).payload


@pytest.mark.parametrize("name", GOOD)
def test_good_files(name: str) -> None:
    payload, said = decoded(name), expected(name)
    assert payload.positions.tolist() == said["positions"]
    assert payload.labels.tolist() == said["labels"]
    assert (list(payload.classes), dict(payload.notes)) == (said["classes"], said["notes"])
    assert (payload.reference, payload.serial, payload.digest().hex()) == (
        said["images"],
        said["serial"],
        said["digest"],
    )


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files(name: str) -> None:
    data = (GOLDEN / "bad" / name).read_bytes()
    for partial in (False, True):
        if partial and name == "v2-truncated-segments.plada":
            continue
        with pytest.raises(PayloadError) as caught:
            parse_payload(
                data, shared=known() if not name.startswith("v2-position") else SharedContext(), partial=partial
            )
        assert type(caught.value) is KINDS[BAD[name]]


def test_there_are_golden_files_of_every_coder_and_form() -> None:
    """A new coder needs its files: python tests/golden/make.py."""
    assert set(GOOD) >= {f"v2-{coder}" for coder in CODERS}
    assert set(GOOD) >= {
        "v2-empty",
        "v2-signed",
        "v2-changes",
        "v2-segments-even-gaps-zstd",
        "v2-segments-layers-gaps-zstd",
    }
    assert {path.name for path in (GOLDEN / "bad").glob("*.plada")} == set(BAD)


def test_a_signature_of_long_ago_still_holds() -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    found = parse_payload((GOLDEN / "v2-signed.plada").read_bytes()).signature
    assert found is not None
    seed = bytes.fromhex(expected("v2-signed")["key_seed"])
    Ed25519PrivateKey.from_private_bytes(seed).public_key().verify(found.signature, found.message)
