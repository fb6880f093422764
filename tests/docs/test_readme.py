"""README is short, its sentences are short, and its figures are those of docs/benchmarks.md."""

import re
import statistics
import tomllib

from tests.docs import documents
from tests.docs.documents import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Rows of README's tables, and what the same figures are called in docs/benchmarks.md.
CURVES = {"plada select": "`auto`", "oracle": "oracle", "random images": "random"}
STUDENTS = {"the server's": "A", "another": "B"}
MESSAGES = {
    "labels: plada select": "auto-pack",
    "labels: oracle": "oracle",
    "labels: the paper's safety net, alpha 0.5": "paper",
    "pixels: shrunk training images": "images-k-centre-shrunk",
    "weights: quantised linear classifier": "probe-axes",
}


def sentences(text: str) -> list[str]:
    """The sentences of a document's prose: no code, tables, headings, pictures, comments; each item of a list by itself."""
    plain = re.sub(r"<!--.*?-->", "", documents.prose(text), flags=re.DOTALL)
    plain = re.sub(r"^(?:#.*|\|.*|\[?!\[.*)$", "", plain, flags=re.MULTILINE)
    plain = re.sub(r"^- ", "\n", plain, flags=re.MULTILINE)
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain)
    paragraphs = re.split(r"\n\s*\n", plain)
    # A colon before a block ends a sentence; one within a line does not.
    return [
        found.strip()
        for paragraph in paragraphs
        for found in re.split(r"(?<=[.?!])\s+(?=[A-Z`/])|:$", " ".join(paragraph.split()))
        if re.search(r"\w", found)
    ]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_sentences_are_short() -> None:
    words = [len(sentence.split()) for sentence in sentences(README)]
    assert len(words) > 30
    assert statistics.fmean(words) <= 18


def test_long_sentences_are_counted() -> None:
    text = "# A heading that is not counted\n\nOne two. Three four five:\n\n```sh\nplada doctor\n```\n\n- six\n- seven `eight` [nine](a.md).\n"
    assert [len(sentence.split()) for sentence in sentences(text)] == [2, 3, 1, 3]


def test_accuracy_by_bytes_is_that_of_the_benchmarks() -> None:
    section = BENCHMARKS.partition("\n## Choosing images\n")[2].partition("\n<!-- end of selection -->")[0]
    compared = 0
    for cells in rows(README):
        if cells[0] in STUDENTS:
            title = f"Student {STUDENTS[cells[0]]}, {CURVES[cells[1].strip('*')]}:"
            table = rows(section.partition(f"\n{title}\n\n")[2].partition("\n\n")[0])
            assert cells[2:] == [row[-1] for row in table[2:]], title
            compared += 1
    assert compared == len(STUDENTS) * len(CURVES)
    seeds = re.search(r"seeds that were measured \(([\d, ]+)\)", " ".join(section.split()))
    assert seeds is not None
    *first, last = seeds[1].split(", ")
    assert f"seeds {', '.join(first)} and {last}," in README


def test_other_messages_are_those_of_the_benchmarks() -> None:
    section = BENCHMARKS.partition("\n### Equal bytes\n")[2].partition("\n### ")[0]
    page: dict[str, list[str]] = {}
    for cells in rows(section.partition("\nHow far ")[0]):
        page.setdefault(cells[0].strip("*"), cells[1:4])
    compared = {cells[0].replace("*", ""): cells[1:] for cells in rows(README)}
    for name, method in MESSAGES.items():
        assert compared[name] == [cell.partition(" ")[0] for cell in page[method]], name
    assert f"Its teacher reaches {page['teacher'][0].partition(',')[0]}." in README


def test_cells_far_below_the_oracle_are_those_of_the_log() -> None:
    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8")
    figures = re.search(r"(\w+) at ([\d ]+) bytes by ([\d.]+) points, and\s+(\w+) at ([\d ]+) bytes with another encoder by (\d+\.\d+)", README)  # fmt: skip
    assert figures is not None
    assert f"-{figures[3]} ({figures[1]}, {figures[2]} bytes, A" in log
    assert f"-{figures[6]} ({figures[4]}, {figures[5]} bytes, B" in log


def test_badges_are_true() -> None:
    assert f"python-{PROJECT['requires-python'].removeprefix('>=')}+-" in README
    assert f"license-{PROJECT['license'].replace('-', '--')}-" in README
    assert PROJECT["urls"]["Paper"] in README
    assert README.count("img.shields.io") == 3


def test_log_and_decisions_are_short() -> None:
    for name in ("log.md", "decisions.md"):
        assert len((ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()) < 200, name
