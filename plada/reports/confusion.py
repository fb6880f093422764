"""A confusion matrix as a picture: rows are what images are, columns what they were called."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from plada.common.files import whole_file

_NAMED = 40  # classes up to which rows and columns carry names and counts
_MARGIN = 8


def confusion_picture(
    names: Sequence[str], counts: Sequence[Sequence[int]] | npt.NDArray[np.int64], path: Path, *, title: str = ""
) -> Path:
    """Write a PNG of `counts` [classes][classes], images of row's class that were called column's; a row is shaded by
    shares of its class. Above 40 classes there are squares alone."""
    named = len(names) <= _NAMED
    cell = 34 if len(names) <= 20 else 26 if named else max(2, 1200 // len(names))
    font, small = ImageFont.load_default(size=12), ImageFont.load_default(size=10)
    label = max((round(font.getlength(name[:24])) for name in names), default=0) + 10 if named else 20
    side = cell * len(names)
    left, top = label + _MARGIN, (34 if title else _MARGIN) + 20
    picture = Image.new("RGB", (left + side + 60 + _MARGIN, top + side + label + _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, 8), title, fill="black", font=font)
    draw.text((left, top - 18), "rows: the class; columns: what it was called; last: right, %", fill="grey", font=small)
    for row, line in enumerate(np.asarray(counts)):
        total = int(line.sum())
        for column, count in enumerate(line.tolist()):
            share = count / total if total else 0.0
            box = (left + column * cell, top + row * cell)
            draw.rectangle((*box, box[0] + cell - 1, box[1] + cell - 1), fill=_shade(share, row == column))
            if named and count:
                middle = (box[0] + cell // 2, box[1] + cell // 2)
                draw.text(middle, str(count), fill="white" if share > 0.55 else "black", font=small, anchor="mm")
        if named:
            height = top + row * cell + cell // 2
            draw.text((left - 6, height), names[row][:24], fill="black", font=font, anchor="rm")
            right = f"{100 * line[row] / total:.0f}" if total else "-"
            draw.text((left + side + 8, height), right, fill="black", font=font, anchor="lm")
            _upright(picture, names[row][:24], (left + row * cell + cell // 2, top + side + 6), font)
    with whole_file(path) as part:
        picture.save(part, format="PNG")
    return path


def _shade(share: float, right: bool) -> tuple[int, int, int]:
    """White for nothing; green for what is right, red for what is not."""
    full = (0, 104, 55) if right else (178, 24, 43)
    strength = share**0.7  # a few per cent must show
    red, green, blue = (round(255 + (part - 255) * strength) for part in full)
    return red, green, blue


def _upright(
    picture: Image.Image, text: str, at: tuple[int, int], font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    """Text that reads upwards, its end at `at`."""
    width = round(font.getlength(text)) + 2
    strip = Image.new("RGB", (max(width, 1), 16), "white")
    ImageDraw.Draw(strip).text((0, 0), text, fill="black", font=font)
    turned = strip.rotate(90, expand=True)
    picture.paste(turned, (at[0] - 8, at[1]))
