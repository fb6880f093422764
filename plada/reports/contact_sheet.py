"""Contact sheets: pictures with a caption, row by row, for people to look at before they trust anything."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from plada.common.files import whole_file
from plada.common.text import visible

_CELL, _GAP, _LABEL, _ROW = 64, 4, 150, 14


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    path: Path,
    *,
    title: str = "",
    notes: Sequence[Sequence[str]] | None = None,
) -> Path:
    """Write a PNG with one row for each (caption, images); a row without images keeps its place and says so. `notes` are
    short texts under the images, row by row."""
    columns = max((len(images) for _, images in rows), default=1) or 1
    head = 30 if title else 0
    high = _CELL + _GAP + (_ROW if notes is not None else 0)
    size = (_LABEL + columns * (_CELL + _GAP) + _GAP, head + len(rows) * high + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    draw.text((_GAP * 2, 8), visible(title), fill="black", font=font)
    for number, (caption, images) in enumerate(rows):
        top = head + _GAP + number * high
        for line, text in enumerate(_wrapped(visible(caption if images else f"{caption} (none)"), 22)[:4]):
            draw.text((_GAP * 2, top + 4 + line * _ROW), text, fill="black", font=font)
        for column, image in enumerate(images):
            place = (_LABEL + column * (_CELL + _GAP), top)
            sheet.paste(_fitted(image), place)
            if notes is not None:
                under = (place[0] + _CELL // 2, top + _CELL)
                draw.text(under, visible(notes[number][column]), fill="black", font=font, anchor="ma")
    with whole_file(path) as part:
        sheet.save(part, format="PNG")
    return path


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
