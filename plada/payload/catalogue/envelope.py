"""How the texts of a catalogue are stored and signed: small, deflated files that clients fetch, and JSON that people read.

A signature covers the text, not the file, so that both forms of one catalogue carry the same one.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plada.errors import PayloadCorrupt, PayloadTruncated, PayloadUnsupported, SignatureError
from plada.payload.catalogue.document import Key, canonical
from plada.payload.signature import SigningKey, key_name, verifies

MAGIC = b"\x89PLC"
VERSION = 1
MAX_TEXT = 64 << 20  # bytes of a text, inflated
MAX_TASK_FILE = 1 << 20  # bytes of the file of one task
_SIGNED_FLAG = 1
_KEY, _SIGNATURE = 32, 64
_MESSAGE = b"plada catalogue 1\0"
_SUCCESSOR = b"plada catalogue successor 1\0"
_ASK = "Fetch it again; if it stays so, ask the catalogue's owner"

# Of the format: never to be changed. What is likeliest stands last, where it is cheapest to point at.
DICTIONARY = (
    b'"url":"https://","signature":"{"about":{"forecast":0.8,"forecast_interval":[0.7,0.9],"licence":"CC BY 4.0","rule":"herd-even",'
    b'"target":"","teacher":"linear","teacher_accuracy":0.9},"history":[{"added":1,"bytes":1000,"classes":10,"coder":"blocks",'
    b'"content":"","files":["","images":1000,"relabelled":1,"removed":1,"serial":1,"version":1},"keys":[{"key":""}],'
    b'"references":{"imagenet21k":{"content_id":"","images":14197122,"key_id":"","manifest":{"bytes":1,"file":""},'
    b'"packs":[{"bytes":1,"dimensions":64,"file":"","pack_id":""}]}},"serial":1,"tasks":{"'
    b'"needs":"nothing"},{"bytes":,"file":"","needs":"pack","pack":"","progressive":true}],{"changes":[{"bytes":,"file":"",'
    b'"needs":"manifest","old":"0123456789abcdef"},{"changes":[{"data":"iVBMRAI","needs":"nothing","old":""}],"content":"","expires":1'
    b',"format":1,"forms":[{"bytes":1000,"file":"","needs":"manifest"}],"key_id":"","name":"","reference":"imagenet21k","serial":1'
    b',"task":"","version":1}'
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A text of a catalogue, the public key that signed it and the signature; None and b"" where it is not signed."""

    text: bytes
    key: bytes | None = None
    signature: bytes = b""

    def check(self, where: str) -> None:
        """Compare the signature, where there is one, with the text.

        Raises:
            SignatureError: it is not of this text. MissingExtra: no cryptography.
        """
        if self.key is not None and not verifies(self.key, self.signature, _MESSAGE + self.text):
            raise SignatureError(
                f"{where}: the signature of key {key_name(self.key)} is not of these bytes: somebody has changed the catalogue. "
                "Do not use it"
            )

    def value(self, where: str) -> Any:
        """The object that the text is. Raises PayloadCorrupt: it is none, or not in the form that is signed."""
        try:
            value = json.loads(self.text)
            if isinstance(value, dict) and canonical(value) == self.text:
                return value
        except (ValueError, RecursionError) as err:
            raise PayloadCorrupt(f"{where}: is not JSON ({err}). {_ASK}") from err
        raise PayloadCorrupt(f"{where}: is JSON, but not in the form that the format asks for. {_ASK}")


def seal(value: Mapping[str, Any], key: SigningKey | None) -> Envelope:
    """The text of an object, signed where there is a key."""
    text = canonical(value)
    return Envelope(text) if key is None else Envelope(text, key.public, key.sign(_MESSAGE + text))


def write_envelope(envelope: Envelope) -> bytes:
    """The deflated file."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=DICTIONARY)
    packed = packer.compress(envelope.text) + packer.flush()
    signed = b"" if envelope.key is None else envelope.key + envelope.signature
    return MAGIC + bytes([VERSION, _SIGNED_FLAG * bool(signed)]) + signed + packed


def read_envelope(data: bytes, where: str) -> Envelope:
    """What a deflated file holds; its signature is not compared yet.

    Raises:
        PayloadTruncated, PayloadCorrupt, PayloadUnsupported: what is wrong with it.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise PayloadCorrupt(
            f"{where}: is no file of a catalogue: it does not begin with 89 50 4C 43. Look at the address"
        )
    at = len(MAGIC) + 2
    if len(data) < at:
        raise PayloadTruncated(f"{where}: is {len(data)} bytes, less than its header. {_ASK}")
    version, flags = data[at - 2], data[at - 1]
    if version != VERSION or flags & ~_SIGNED_FLAG:
        raise PayloadUnsupported(
            f"{where}: a file of a catalogue of version {version}, flags {flags:#04x}; this plada reads version {VERSION}. "
            "Install a newer plada"
        )
    key, signature = None, b""
    if flags & _SIGNED_FLAG:
        key, signature = data[at : at + _KEY], data[at + _KEY : at + _KEY + _SIGNATURE]
        at += _KEY + _SIGNATURE
    stream = zlib.decompressobj(-15, zdict=DICTIONARY)
    try:
        text = stream.decompress(data[at:], MAX_TEXT + 1)
    except zlib.error as err:
        raise PayloadCorrupt(f"{where}: does not decompress ({err}). {_ASK}") from err
    if len(text) > MAX_TEXT or stream.unused_data:
        raise PayloadCorrupt(f"{where}: takes over {MAX_TEXT} bytes, or does not end where its text does. {_ASK}")
    if not stream.eof:
        raise PayloadTruncated(f"{where}: ends before its text does. {_ASK}")
    return Envelope(text, key, signature)


def write_json_envelope(envelope: Envelope) -> bytes:
    """The same as JSON for people and other programs."""
    value: dict[str, Any] = {"catalogue": json.loads(envelope.text)}
    if envelope.key is not None:
        value |= {"key": envelope.key.hex(), "signature": envelope.signature.hex()}
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def read_json_envelope(data: bytes, where: str) -> Envelope:
    """What the JSON file holds; raises as read_envelope does."""
    try:
        value = json.loads(data)
        text = canonical(value["catalogue"])
        if "key" not in value:
            return Envelope(text)
        return Envelope(text, bytes.fromhex(value["key"]), bytes.fromhex(value["signature"]))
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise PayloadCorrupt(f"{where}: is no catalogue ({type(err).__name__}: {err}). {_ASK}") from err


def succeed(name: str, old: SigningKey, new: bytes) -> Key:
    """The public key `new` as the successor of `old` in the catalogue `name`."""
    return Key(key=new, signature=old.sign(_successor(name, old.public, new)))


def keys_after(name: str, keys: Sequence[Key], known: bytes, where: str) -> list[bytes]:
    """The keys that came after `known`, each signed by the one before it; () where it is the last one.

    Raises:
        SignatureError: `known` is not among the keys, or a signature of a successor is wrong.
    """
    at = next((place for place, each in enumerate(keys) if each.key == known), None)
    if at is None:
        raise SignatureError(
            f"{where}: is signed by key {key_name(keys[-1].key) if keys else 'of nobody'}; known is {key_name(known)}, and nothing "
            "here says that the other one succeeds it. Ask the catalogue's owner, through another channel, which key is the right one"
        )
    for old, new in zip(keys[at:], keys[at + 1 :], strict=False):
        if not verifies(old.key, new.signature, _successor(name, old.key, new.key)):
            raise SignatureError(
                f"{where}: key {key_name(new.key)} is not signed by key {key_name(old.key)}, whose successor it claims to be. "
                "Do not use this catalogue"
            )
    return [each.key for each in keys[at + 1 :]]


def _successor(name: str, old: bytes, new: bytes) -> bytes:
    return _SUCCESSOR + name.encode() + b"\0" + old + new
