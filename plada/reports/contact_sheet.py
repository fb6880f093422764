"""Contact sheets: pictures with a caption, row by row, for people to look at before they trust anything."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from plada.common.files import whole_file
from plada.common.text import visible

_CELL, _GAP, _LABEL, _ROW, _NOTE = 64, 4, 150, 14, 11


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    path: Path,
    *,
    title: str = "",
    notes: Sequence[Sequence[str]] | None = None,
) -> Path:
    """Write a PNG with one row for each (caption, images); a row without images keeps its place and says so. `notes` are
    short texts under the images, row by row; each line of a text is shortened to the width of an image, the last at its beginning."""
    columns = max((len(images) for _, images in rows), default=1) or 1
    head = 30 if title else 0
    lines = max((text.count("\n") + 1 for row in notes for text in row), default=1) if notes is not None else 0
    high = _CELL + _GAP + lines * _NOTE
    size = (_LABEL + columns * (_CELL + _GAP) + _GAP, head + len(rows) * high + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(size=12), ImageFont.load_default(size=9)
    draw.text((_GAP * 2, 8), visible(title), fill="black", font=font)
    for number, (caption, images) in enumerate(rows):
        top = head + _GAP + number * high
        for line, text in enumerate(_wrapped(visible(caption if images else f"{caption} (none)"), 22)[:4]):
            draw.text((_GAP * 2, top + 4 + line * _ROW), text, fill="black", font=font)
        for column, image in enumerate(images):
            place = (_LABEL + column * (_CELL + _GAP), top)
            sheet.paste(_fitted(image), place)
            if notes is not None:
                texts = notes[number][column].split("\n")
                for line, text in enumerate(texts):
                    under = (place[0] + _CELL // 2, top + _CELL + line * _NOTE)
                    draw.text(
                        under,
                        _fitting(visible(text), small, ends=line + 1 == len(texts)),
                        fill="black",
                        font=small,
                        anchor="ma",
                    )
    with whole_file(path) as part:
        sheet.save(part, format="PNG")
    return path


def _fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, *, ends: bool) -> str:
    """As much of a text as is no wider than an image: its beginning, or where it `ends`, as in a key, which tells images apart."""
    whole = text
    while text and font.getlength(text if text == whole else f"{text}…") > _CELL + _GAP:
        text = text[1:] if ends else text[:-1]
    if text == whole:
        return text
    return f"…{text}" if ends else f"{text}…"


def _fitted(image: Image.Image) -> Image.Image:
    """The whole picture inside a square, aspect kept; small ones are enlarged without blur so that pixels show."""
    factor = _CELL / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    cell = Image.new("RGB", (_CELL, _CELL), (235, 235, 235))
    cell.paste(image.resize(size, how), ((_CELL - size[0]) // 2, (_CELL - size[1]) // 2))
    return cell


def _wrapped(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)] or [""]
