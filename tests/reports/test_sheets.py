"""Contact sheets hold every picture that was handed in, in its place."""

from pathlib import Path

from PIL import Image

from plada.reports.contact_sheet import contact_sheet


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
