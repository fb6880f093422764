"""Encoders that have a short name, with what is published of them (docs/encoders.md has the sources)."""

from dataclasses import dataclass

from plada.common.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEncoder(Summary):
    """An encoder with a short name.

    Attributes:
        short: The short name.
        name: The full name, which an index records.
        megabytes: The size of the weights file: 4 bytes a parameter.
        dimension: Numbers of an embedding.
        image_size: The side of the square that it sees, in pixels, where the short name stands for another than the weights' own.
        rate: Published images a second of the forward pass on an RTX 4090; None where nothing is published.
        accuracy: Published accuracy on ImageNet in %, by `measure`; None where nothing is published.
        measure: How that was measured.
        text: Whether it reads words, too.
    """

    short: str
    name: str
    megabytes: int
    dimension: int
    image_size: int | None = None
    rate: int | None = None
    accuracy: float | None = None
    measure: str = ""
    text: bool = False


_ZERO_SHOT = "zero-shot"
_ALL = (
    KnownEncoder(
        short="clip", name="open_clip:ViT-B-32-256/datacomp_s34b_b86k", megabytes=605, dimension=512, rate=7846,
        accuracy=72.8, measure=_ZERO_SHOT, text=True,
    ),
    KnownEncoder(
        short="clip-b16", name="open_clip:ViT-B-16/datacomp_xl_s13b_b90k", megabytes=599, dimension=512,
        accuracy=73.5, measure=_ZERO_SHOT, text=True,
    ),
    KnownEncoder(
        short="clip-l", name="open_clip:ViT-L-14/datacomp_xl_s13b_b90k", megabytes=1711, dimension=768,
        accuracy=79.2, measure=_ZERO_SHOT, text=True,
    ),
    KnownEncoder(
        short="dinov2-s", name="timm:vit_small_patch14_dinov2.lvd142m", megabytes=88, dimension=384, image_size=224,
        accuracy=81.1, measure="linear layer",
    ),
    KnownEncoder(
        short="mobilenet", name="timm:mobilenetv2_100.ra_in1k", megabytes=14, dimension=1280, image_size=96,
    ),
)  # fmt: skip
KNOWN_ENCODERS = {encoder.short: encoder for encoder in _ALL}
DEFAULT_ENCODER = KNOWN_ENCODERS["clip"].name  # for photographs; chosen in docs/encoders.md


def download_megabytes(name: str) -> int | None:
    """The size of an encoder's weights, by its full name; None where it is not known."""
    return next((encoder.megabytes for encoder in _ALL if encoder.name == name), None)
