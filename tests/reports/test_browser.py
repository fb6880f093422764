"""The page in a real browser: quiet, asking for nothing, and corrected by mouse and keyboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from plada.reports.findings import ClassFacts, Findings
from plada.reports.page import render_page
from plada.selection.corrections import read_keys, read_labels
from tests.browser import Tab, accessibility_violations, browser, fits_a_phone_and_both_schemes
from tests.reports.findings import NASTY, findings, pictures

ODD = (*NASTY, "plain/key", ' "quoted', '"a"', "#hash", " spaces ", "\x85next\u2029", 'comma, "and" quote', "\u00a0x")
CLASSES = ("first", *NASTY)


def nasty() -> Findings:
    """Every odd key in the first class, one picture of each class beside it."""
    classes = [ClassFacts(name=CLASSES[0], before=99, after=len(ODD), pictures=pictures(ODD))]
    classes += [
        ClassFacts(name=name, before=9, after=1, pictures=pictures((f"other/{at}",))) for at, name in enumerate(NASTY)
    ]
    return findings(tuple(classes), excluded=("before/1",), relabelled=(("before/2", CLASSES[2]),))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_bytes(render_page(nasty()))
    with browser(folder) as opened:
        yield opened


@pytest.fixture
def opened(tab: Tab) -> Tab:
    """The page, loaded anew."""
    for path in tab.downloads.iterdir():
        path.unlink()
    tab.errors.clear()
    tab.requests.clear()
    tab.run("window.onbeforeunload = null; document.getElementById('clear')?.click()")
    tab.open(f"file://{tab.downloads.parent / 'report.html'}")
    return tab


def test_it_is_quiet_and_asks_for_nothing(opened: Tab) -> None:
    opened.run("for (const part of document.querySelectorAll('details')) part.open = true")
    opened.run("scrollTo(0, document.body.scrollHeight)")
    assert opened.errors == []
    outside = [address for address in opened.requests if not address.startswith("data:")]
    assert outside == [f"file://{opened.downloads.parent / 'report.html'}"]
    assert opened.run("[...document.images].filter(i => !(i.complete && i.naturalWidth)).length") == 0
    assert opened.run("document.querySelectorAll('script').length") == 2


def test_what_is_not_allowed_does_not_run(opened: Tab) -> None:
    """The policy is in force: the browser refuses what the page could be made to do."""
    opened.run("fetch('https://example.invalid/').catch(() => 0)")
    opened.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.bad = 1\">')")
    opened.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1'; document.body.append(s); })()"
    )
    opened.run("new Promise(done => setTimeout(done, 100))")
    assert opened.run("window.bad") is None
    assert len(opened.errors) >= 3
    assert all("Content Security Policy" in error for error in opened.errors)


def test_clicks_become_lists_that_select_reads(opened: Tab) -> None:
    assert opened.run("getComputedStyle(document.getElementById('get-exclude')).display") == "none"
    count = len(ODD)
    for number in range(count):
        opened.click(f'[data-i="{number}"]')
    opened.click('[data-i="10"]')  # taken back: plain/key
    assert opened.run("document.querySelectorAll('.rejected').length") == count - 1
    assert opened.run("document.getElementById('count').textContent") == f"{count - 1} rejected"
    opened.click("#get-exclude")
    keys = read_keys(opened.downloaded("exclude.txt"))
    assert keys == ["before/1", *(key for key in ODD if key != "plain/key")]
    assert opened.errors == []


def test_other_labels_become_a_table_that_select_reads(opened: Tab) -> None:
    given = {}
    for number, key in enumerate(ODD[: len(NASTY)]):
        label = number + 1
        opened.run(
            f"(() => {{ const s = document.getElementById('class'); s.value = '{label}'; s.dispatchEvent(new Event('change')); }})()"
        )
        opened.click(f'[data-i="{number}"]')
        given[key] = label
    opened.click("#get-relabel")
    keys, labels = read_labels(opened.downloaded("relabel.csv"), CLASSES)
    assert dict(zip(keys, labels.tolist(), strict=True)) == {"before/2": 2, **given}
    assert opened.run("document.querySelector('[data-i=\"0\"] .mark').textContent") == f"is {NASTY[0]}"
    # The class it has already takes a correction back, and so does a rejection.
    opened.run("document.getElementById('class').value = '0'")
    opened.click('[data-i="0"]')
    opened.click("#act-reject")
    opened.click('[data-i="1"]')
    said = opened.run("document.getElementById('count').textContent")
    assert said == f"1 rejected, {len(NASTY) - 2} called otherwise"
    opened.click("#clear")
    assert opened.run("document.getElementById('count').textContent") == "no corrections yet"
    assert opened.run("document.querySelectorAll('[aria-pressed=true], .mark').length") == 0


def test_the_keyboard_alone_will_do(opened: Tab) -> None:
    opened.run("document.querySelector('.shots button').focus()")
    opened.press("ArrowRight")
    opened.press("ArrowRight")
    opened.press("ArrowLeft")
    assert opened.run("document.activeElement.dataset.i") == "1"
    opened.press("Enter", "\r")
    assert opened.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    opened.press("Tab")
    assert opened.run("document.activeElement.dataset.i") == str(len(ODD))  # the next class is one step away
    opened.run("document.getElementById('get-exclude').focus()")
    opened.press("Enter", "\r")
    assert read_keys(opened.downloaded("exclude.txt")) == ["before/1", ODD[1]]


def test_it_fits_a_phone_and_both_schemes(opened: Tab, tmp_path: Path) -> None:
    fits_a_phone_and_both_schemes(opened, tmp_path / "p.png")


def test_on_paper_nothing_is_hidden(opened: Tab) -> None:
    opened.send("Emulation.setEmulatedMedia", media="print")
    assert opened.run("getComputedStyle(document.getElementById('corrections')).display") == "none"
    pdf = opened.send("Page.printToPDF")["data"]
    assert len(pdf) > 10_000
    opened.send("Emulation.setEmulatedMedia", media="")


def test_it_is_accessible(opened: Tab) -> None:
    """The whole page, open parts and corrected pictures included."""
    opened.run("for (const part of document.querySelectorAll('details')) part.open = true")
    opened.click(".shots button")
    assert accessibility_violations(opened) == []


def test_tables_are_readable_on_a_phone(opened: Tab) -> None:
    """No table of the first screen has to be pushed sideways, and keys and names of synsets are shown whole."""
    opened.show(width=360, height=740)
    wide = (
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)"
    )
    assert set(opened.run(wide)) <= {"Confusion matrix"}
    cut = "[...document.querySelectorAll('.key, .what')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert opened.run(cut) == 0
    opened.show()
