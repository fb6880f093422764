"""A teacher without a single image of the target: class names through the text tower of the index's encoder."""

import numpy as np

from plada.encoders.encoder import Encoder
from plada.errors import RequestError
from plada.labeler.teacher import VECTORS, Teacher
from plada.networks.linear_head import Head

SCALE = 100.0  # what CLIP multiplies cosines by; training has it end there
# A few of CLIP's own sentences; averaged they are steadier than any one.
TEMPLATES = ("a photo of a {}.", "a blurry photo of a {}.", "a close-up photo of a {}.", "a photo of the {}.", "{}")


def zeroshot_teacher(encoder: Encoder, classes: tuple[str, ...]) -> Teacher:
    """Logits are SCALE times the cosine of an image's embedding to the mean embedding of its class's sentences.

    Raises:
        RequestError: the encoder has no text tower that works here; the reason is said.
    """
    if encoder.encode_text is None:
        raise RequestError(
            f"teacher zeroshot: the index's encoder {encoder.config.name} reads no text ({encoder.text_note}). Index with "
            "an open_clip encoder, or take --teacher linear"
        )
    rows = []
    for name in classes:
        words = spoken(name)
        mean = encoder.encode_text([template.format(words) for template in TEMPLATES]).mean(axis=0)
        rows.append(mean / max(float(np.linalg.norm(mean)), 1e-9))
    weight = np.ascontiguousarray(SCALE * np.stack(rows).T, np.float32)
    head = Head(np.zeros(len(weight), np.float32), weight, np.zeros(len(classes), np.float32))
    return Teacher(kind="zeroshot", classes=len(classes), needs=VECTORS, logits=head.logits, head=head)


def spoken(name: str) -> str:
    """A class name as words: `electric_guitar` becomes `electric guitar`."""
    return " ".join(name.replace("_", " ").replace("-", " ").split())
