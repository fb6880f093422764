"""What an image is that PIL does not open, from its first bytes: sound files of kinds that are not read."""

import struct

_SIGNATURES = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
_BRANDS = {"avif": "AVIF", "avis": "AVIF", "mif1": "HEIF", "msf1": "HEIF"}
_HEIC = frozenset({"heic", "heix", "heim", "heis", "hevc", "hevx"})
_FRAMES = {0xC3: "lossless JPEG", 0xF7: "JPEG-LS"}
_PLAIN = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_NUMBERS = {1: "unsigned", 2: "signed", 3: "float"}


def unsupported_kind(data: bytes) -> str:
    """The kind of a file in words; empty where nothing says that it is of a kind that is not read."""
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    try:
        if data[4:8] == b"ftyp":
            return _brand(data)
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
    except (struct.error, IndexError):
        pass  # cut or damaged
    return ""


def _brand(data: bytes) -> str:
    """AVIF, HEIC or HEIF, by the first brand of those named that says it."""
    end = min(struct.unpack_from(">I", data)[0], 256, len(data))
    brands = [data[at : at + 4].decode("latin-1") for at in (8, *range(16, end - 3, 4))]
    names = ["HEIC" if brand in _HEIC else _BRANDS.get(brand, "") for brand in brands]
    return next((name for name in ("AVIF", "HEIC", "HEIF") if name in names), f"a file of brand {brands[0]!r}")


def _jpeg(data: bytes) -> str:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            return _FRAMES[marker]
        if marker in _PLAIN:
            bits, channels = data[at + 4], data[at + 9]
            return f"a JPEG of {bits} bits and {channels} channels" if bits != 8 or channels not in (1, 3, 4) else ""
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return ""


def _tiff(data: bytes) -> str:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, entry)
        form, size = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}.get(kind, ("I", 4))
        (place,) = struct.unpack_from(f"{order}I", data, entry + 8) if number * size > 4 else (entry + 8,)
        (tags[tag],) = struct.unpack_from(f"{order}{form}", data, place)
    if not {256, 257, 262} <= tags.keys():
        return ""
    numbers = _NUMBERS.get(tags.get(339, 1), "other")
    return f"a TIFF of {tags.get(277, 1)} channels of {tags.get(258, 1)} bits, {numbers} numbers"
