"""What the pages show: an index, the pictures of its reference, what payloads chose. Answers are cached with a bound.

Pictures are asked for by position and sent as pixels that were encoded here: no stored byte of a file is sent, and no text
of a request is taken for a path.
"""

import bisect
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from plada.common.arrays import F32, U8
from plada.encoders.encoder import Encoder
from plada.errors import PladaError, RequestError
from plada.explorer.cache import BoundedCache
from plada.explorer.catalogues import ShownCatalogue
from plada.explorer.payloads import Placement, RankedPayload
from plada.reports.thumbnails import encode_picture, fit_square
from plada.retrieval.hit import Hit
from plada.retrieval.index import Index
from plada.sources.decode import decode
from plada.sources.manifest import READABLE, ManifestRow
from plada.sources.reference import Reference

THUMB, LARGE = 176, 640  # pixels of the longer side
HITS = 600  # of a search, at most
_QUALITY = {THUMB: 72, LARGE: 85}
_PICTURES = 64 * 2**20  # bytes of cached pictures
_SEARCHES = 64
_MAPS = 8
_UPLOADS = 32
_PATIENCE = 30  # seconds that an upload waits for those before it
_DECODING = 4  # pictures at a time: one may have 89 million pixels


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A picture as it is sent: its bytes and their media type."""

    data: bytes
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A picture that a person gave: its unit vector float32 [1, d], and how it is shown."""

    vector: F32
    shown: EncodedImage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gallery:
    """An index that can be looked through and searched.

    `encoder` is None where it cannot be loaded; `no_encoder` says why. `approximate`: searches may use the approximate index.
    `notes` are what a person should know of this index.
    """

    index: Index
    reference: Reference
    payloads: tuple[RankedPayload, ...] = ()
    encoder: Encoder | None = None
    no_encoder: str = ""
    approximate: bool = False
    notes: tuple[str, ...] = ()
    catalogues: tuple[ShownCatalogue, ...] = ()
    beside: tuple["Gallery", ...] = ()  # other indexes of the same images, whose answers stand beside this one's
    names: Mapping[str, str] = field(default_factory=dict)  # of synsets
    maps: BoundedCache[int, object] = field(default_factory=lambda: BoundedCache(_MAPS))
    pictures: BoundedCache[tuple[int, int], EncodedImage] = field(
        default_factory=lambda: BoundedCache(_PICTURES, lambda picture: len(picture.data))
    )
    searches: BoundedCache[tuple[str, object, bool], list[Hit]] = field(default_factory=lambda: BoundedCache(_SEARCHES))
    form_token: str = field(default_factory=secrets.token_urlsafe)  # of the pages' own forms: nothing else may post
    uploads: BoundedCache[str, Upload] = field(default_factory=lambda: BoundedCache(_UPLOADS))
    _searching: threading.Lock = field(default_factory=threading.Lock)
    _uploading: threading.Lock = field(default_factory=threading.Lock)
    _decoding: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_DECODING))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def version(self) -> str:
        """Changes with the images: addresses of pictures that a browser keeps carry it."""
        return self.reference.manifest.content_id.hex()[:8]

    @property
    def no_words(self) -> str:
        """Why the index cannot be searched by words; "" where it can."""
        if self.encoder is None:
            return self.no_encoder
        if self.encoder.encode_text is not None:
            return ""
        return (
            f"{self.encoder.text_note or f'{self.encoder.config.name} has no text tower'}. Search by a picture, a position or a "
            "key; or index with an open_clip encoder"
        )

    @property
    def gone(self) -> bool:
        """Whether the index that was opened is there no more: removed, or another one stands in its place. One at a URL is not looked
        for: reading it says so."""
        if self.index.at_url:
            return False
        try:
            info = json.loads((self.index.folder / "index.json").read_text(encoding="utf-8"))
            return bool(info["content_id"] != self.index.info["content_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return True

    def row(self, position: int) -> ManifestRow:
        """What the manifest says of an image."""
        return self.reference.manifest.row(position)

    def keys(self, positions: list[int]) -> list[str]:
        """Keys of some images, in the order asked for."""
        return self.reference.manifest.keys_at(positions)

    def key_range(self, prefix: str) -> range:
        """Positions of all keys that begin with `prefix`: they are neighbours, since positions are ranks of keys."""

        def key(position: int) -> str:
            return self.reference.manifest.keys_at([position])[0]

        everything = range(len(self))
        first = bisect.bisect_left(everything, prefix, key=key)
        end = bisect.bisect_right(everything, prefix, lo=first, key=lambda position: key(position)[: len(prefix)])
        return range(first, end)

    def placements(self, position: int) -> list[tuple[int, RankedPayload, Placement]]:
        """(number, payload, placement) of the payloads that chose an image."""
        every = ((number, ranked, ranked.find(position)) for number, ranked in enumerate(self.payloads))
        return [(number, ranked, placement) for number, ranked, placement in every if placement is not None]

    def picture(self, position: int, side: int) -> EncodedImage:
        """An image of the reference, to fit a square of `side` pixels. Raises DataError: it cannot be read or decoded.
        ReferenceMismatch: it has changed."""
        return self.pictures.get_or_make((position, side), lambda: self._encoded(self.reference.read(position), side))

    def problem(self, row: ManifestRow) -> str:
        """Why an image cannot be shown, as far as that was seen when it was indexed; "" where nothing was."""
        return "" if row.status in (READABLE, None) else row.status

    def upload(self, data: bytes) -> str:
        """Take a picture of the user's; return the name by which it can be searched, until newer uploads push it out.
        Raises RequestError: not a picture, too many pixels, or no encoder here."""
        encoders = {each: each.encoder for each in self.beside if each.encoder is not None}
        encoders[self] = self._encoder("pictures")
        if not self._uploading.acquire(timeout=_PATIENCE):
            raise RequestError("too many pictures are uploaded at once. Try again in a minute")
        try:  # one at a time: a file of a few kilobytes may have 89 million pixels
            seen = {gallery: _seen(data, encoder) for gallery, encoder in encoders.items()}
        finally:
            self._uploading.release()
        name = secrets.token_urlsafe(9)
        for gallery, (pixels, shown) in seen.items():
            with gallery._searching:
                vector = encoders[gallery].encode(pixels)
            gallery.uploads.put(name, Upload(vector, shown))
        return name

    def near_words(self, words: str, *, exact: bool = False) -> list[Hit]:
        """The images nearest to words. Raises RequestError: the encoder reads none, or too many words."""
        if self.no_words:
            raise RequestError(f"words cannot be searched for: {self.no_words}")
        encoder = self._encoder("words")
        assert encoder.encode_text is not None
        encode = encoder.encode_text
        return self._near(("words", words), lambda: np.asarray(encode([words]), np.float32), exact)

    def near_upload(self, name: str, *, exact: bool = False) -> list[Hit]:
        """The images nearest to an uploaded picture, which must still be there."""
        upload = self.uploads.get(name)
        if upload is None:
            raise RequestError("that picture is not kept any more. Upload it again")
        vector = upload.vector
        return self._near(("upload", name), lambda: vector, exact)

    def near_position(self, position: int, *, exact: bool = False) -> list[Hit]:
        """The images nearest to one of them, without itself. Raises DataError: it has no embedding."""
        hits = self._near(
            ("position", position), lambda: np.asarray(self.index.vectors([position]), np.float32), exact, HITS + 1
        )
        return [hit for hit in hits if hit.position != position][:HITS]

    def _near(self, query: tuple[str, object], vector: Callable[[], F32], exact: bool, limit: int = HITS) -> list[Hit]:
        def search() -> list[Hit]:
            with self._searching:  # one at a time: each takes every core
                # A vector, never the text itself: Index.search would take a string for the path of an image.
                return self.index.search(vector(), min(limit, len(self)), exact=exact or not self.approximate)[0]

        return self.searches.get_or_make((*query, exact), search)

    def _encoder(self, what: str) -> Encoder:
        if self.encoder is None:
            raise RequestError(f"{what} cannot be searched for: {self.no_encoder}")
        return self.encoder

    def _encoded(self, data: bytes, side: int) -> EncodedImage:
        with self._decoding:
            return _encode(decode(data), side)


def _seen(data: bytes, encoder: Encoder) -> tuple[U8, EncodedImage]:
    """(pixels uint8 [1, size, size, 3] that the encoder sees, the picture as it is shown); all its own pixels are given
    back when this returns."""
    try:
        image = decode(data)
    except PladaError as err:
        raise RequestError(f"your picture: {err}. Give a JPEG, PNG, WebP, GIF, BMP or TIFF") from err
    return encoder.view.of(image)[None], _encode(image, LARGE)


def _encode(image: Image.Image, side: int) -> EncodedImage:
    return EncodedImage(*encode_picture(fit_square(image, side), quality=_QUALITY[side]))
