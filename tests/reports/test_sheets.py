"""Contact sheets hold every picture that was handed in, in its place."""

from pathlib import Path

from PIL import Image, ImageFont

from plada.reports.contact_sheet import _fitting, contact_sheet


def test_rows_and_columns(tmp_path: Path) -> None:
    red, wide = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (400, 100), "blue")
    path = contact_sheet(
        [("red", [red, wide]), ("<b>none</b> " * 9, []), ("one", [wide])], tmp_path / "s.png", title="t"
    )
    with Image.open(path) as sheet:
        assert sheet.size == (150 + 2 * 68 + 4, 30 + 3 * 68 + 4)
        assert sheet.getpixel((150 + 32, 34 + 32)) == (255, 0, 0)
        assert sheet.getpixel((150 + 68 + 32, 34 + 32)) == (0, 0, 255)
        assert sheet.getpixel((150 + 68 + 32, 34 + 4)) == (235, 235, 235)
        assert sheet.getpixel((150 + 32, 34 + 2 * 68 + 32)) == (0, 0, 255)
        assert sheet.getpixel((150 + 32, 34 + 68 + 32)) == (255, 255, 255)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [("a", [Image.new("RGB", (8, 8), "red")])]
    one, two = contact_sheet(rows, tmp_path / "1.png"), contact_sheet(rows, tmp_path / "2.png")
    assert one.read_bytes() == two.read_bytes()
    contact_sheet([], tmp_path / "empty.png")


def test_notes_show_the_ends_of_keys(tmp_path: Path) -> None:
    """A line each, no wider than the picture; of a long key its end."""
    font = ImageFont.load_default(size=9)
    assert _fitting("n01443537_10", font, ends=True) == "n01443537_10"
    long = _fitting("a-very-long-name-of-an-image_10", font, ends=True)
    assert long.startswith("…")
    assert long.endswith("image_10")
    assert font.getlength(long) <= 68
    assert _fitting("computer keyboard", font, ends=False).startswith("computer k")
    image = Image.new("RGB", (8, 8), "red")
    path = contact_sheet([("red", [image])], tmp_path / "s.png", notes=[["goldfish\nn01443537_10"]])
    with Image.open(path) as sheet:
        assert sheet.size == (150 + 68 + 4, 68 + 2 * 11 + 4)
