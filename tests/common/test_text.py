"""Whatever a text holds is shown, and nothing in it acts."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plada
from plada.common.text import csv_cell, csv_text, split_names, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\u001b[31mred"),
        ("\x1b]52;c;ZXZpbA==\x07", r"\u001b]52;c;ZXZpbA==\u0007"),
        ("\x9b2J", r"\x9b2J"),
        ("one\ntwo\r", r"one\ntwo\r"),
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
        ("\u2066x\u2069", r"\u2066x\u2069"),
        ("a\u2028b", r"a\u2028b"),
        ("\ud800", r"\ud800"),
        ("café 猫 می‌خواهم", "café 猫 می‌خواهم"),
    ],
)
def test_what_acts_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_what_is_shown_is_one_plain_line(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert all(letter.isprintable() or letter in "\u200c\u200d" for letter in shown)
    assert visible(shown) == shown


@given(st.text(alphabet="'=+-@\t\rab"))
def test_no_cell_is_a_formula(text: str) -> None:
    assert csv_cell(text)[:1] not in tuple("=+-@\t\r")
    assert csv_text(csv_cell(text)) == text


def test_commands_print_through_one_function() -> None:
    """A bare print would show what a stranger's names hold."""
    allowed = {"cli.py", "commands/console/output.py", "commands/console/pipes.py", "commands/console/options.py"}
    root = Path(plada.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert found <= allowed, found - allowed


def test_commas_part_names_but_not_places() -> None:
    places = {"/data/a,b", "/data/a,b,c", "x"}

    def split(text: str) -> list[str]:
        return split_names(text, places.__contains__)

    assert split("digits, x ,y") == ["digits", "x", "y"]
    assert split("/data/a,b") == ["/data/a,b"]
    assert split("/data/a,b,c,digits") == ["/data/a,b,c", "digits"]
    assert split("digits,/data/a,b,y") == ["digits", "/data/a,b", "y"]
    assert split("") == [""]
