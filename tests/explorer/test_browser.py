"""The pages in a real browser: quiet, asking nothing of anywhere else, and walked through by mouse and keyboard."""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

import plada
from plada.api.explore import open_gallery
from tests.browser import Tab, accessibility_violations, browser, fits_a_phone_and_both_schemes
from tests.explorer.conftest import COOKIE, TOKEN, Client, serving


@pytest.fixture(scope="module")
def client(glyph_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The drawn characters, and what two payloads for digits chose of them."""
    folder = tmp_path_factory.mktemp("chosen")
    file, table = folder / "digits.plada", folder / "digits.parquet"
    plada.select("glyphs", target="digits", budget=400, rule="balanced", out=file, home=glyph_home).write_table(table)
    plada.select("glyphs", target="digits", budget=300, rule="spread", out=folder / "other.plada", home=glyph_home)
    gallery = open_gallery(["glyphs", "glyphs"], [file, folder / "other.plada"], selection=[table], home=glyph_home)
    with serving(gallery) as served:
        yield served


@pytest.fixture(scope="module")
def tab(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A browser that came by the token."""
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.open(f"http://127.0.0.1:{client.port}/?token={TOKEN}")
        settle(opened, "location.search === '' && document.querySelector('.shots') !== null")
        assert opened.errors == []
        yield opened


@pytest.fixture
def page(tab: Tab, client: Client) -> Tab:
    """The overview, loaded anew."""
    tab.errors.clear()
    tab.requests.clear()
    tab.open(f"http://127.0.0.1:{client.port}/")
    return tab


def settle(tab: Tab, true: str) -> None:
    """Wait until an expression is true on whatever page there is meanwhile."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if tab.run(f"document.readyState === 'complete' && ({true})"):
                return
        except AssertionError:  # the page was left while it was asked
            pass
        time.sleep(0.1)
    raise AssertionError(f"never: {true}")


def loaded(tab: Tab) -> None:
    """Every picture of the page is there, also those further down."""
    tab.run("Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode(); }))")


def test_search_by_position_and_go_from_neighbour_to_neighbour(page: Tab, client: Client) -> None:
    loaded(page)
    assert page.run("document.querySelectorAll('.shots img').length") == 60
    page.click("#q")
    page.send("Input.insertText", text="1234")
    page.press("Enter", "\r")
    settle(page, "location.pathname === '/image/1234'")
    loaded(page)
    assert page.run("document.querySelector('h1').textContent") == "Image 1234"
    first = page.run("document.querySelector('.shots a').pathname")
    assert first != "/image/1234"
    page.click(".shots a")
    settle(page, f"location.pathname === '{first}'")
    loaded(page)
    assert page.run("[...document.querySelectorAll('.shots a')].some(a => a.pathname === '/image/1234')")
    page.click(".pager a[rel=next]")
    settle(page, "location.pathname !== " + repr(first))
    assert page.errors == []
    home = f"http://127.0.0.1:{client.port}/"
    assert [address for address in page.requests if not address.startswith(home)] == []
    assert not any(TOKEN in address for address in page.requests)


def test_the_keyboard_alone_will_do(page: Tab) -> None:
    page.run("document.activeElement.blur()")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.press("Enter", "\r")
    assert page.run("document.activeElement.id") == "main"
    page.run("document.querySelector('.shots a').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.press("ArrowLeft")
    second = page.run("[...document.querySelectorAll('.shots a')].indexOf(document.activeElement)")
    assert second == 1
    wanted = page.run("document.activeElement.pathname")
    page.press("Enter", "\r")
    settle(page, f"location.pathname === '{wanted}'")
    assert page.errors == []


def test_a_picture_is_searched_by_when_it_is_chosen(page: Tab, client: Client, tmp_path: Path) -> None:
    client.gallery.reference.image(77).save(tmp_path / "mine.png")
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=root, selector="#image")["nodeId"]
    page.send("DOM.setFileInputFiles", files=[str(tmp_path / "mine.png")], nodeId=node)
    settle(page, "location.pathname.startsWith('/like/')")
    loaded(page)
    assert page.run("document.querySelector('.shots a').pathname") == "/image/77"
    assert page.errors == []


def test_what_a_payload_chose(page: Tab, client: Client) -> None:
    page.open(f"http://127.0.0.1:{client.port}/chosen/0")
    loaded(page)
    assert page.run("[...document.querySelectorAll('h2 > bdi')].map(h => h.textContent)") == [
        str(digit) for digit in range(10)
    ]
    best = client.gallery.payloads[0].best(0, 0, 1)[0]
    assert page.run("document.querySelector('.shots a').pathname") == f"/image/{best}"
    page.click(".shots a")
    settle(page, f"location.pathname === '/image/{best}'")
    assert "chosen as 0, the 1st of" in page.run("document.querySelector('.facts').textContent").replace("\xa0", " ")
    assert page.errors == []


def test_what_is_not_allowed_does_not_run(page: Tab) -> None:
    page.run("fetch('https://example.invalid/').catch(() => 0)")
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.bad = 1\">')")
    page.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1'; document.body.append(s); })()"
    )
    page.run("new Promise(done => setTimeout(done, 100))")
    assert page.run("window.bad") is None
    assert page.run("document.cookie") == ""  # no script can read it
    assert len([error for error in page.errors if "Content Security Policy" in error]) >= 3
    cookies = page.send("Network.getCookies")["cookies"]
    assert [(each["name"], each["httpOnly"], each["sameSite"]) for each in cookies] == [(COOKIE, True, "Strict")]


PATHS = ["/", "/image/3", "/chosen/0", "/chosen/0/3", "/map", "/search?q=key:v", "/nothing"]


@pytest.mark.parametrize("path", [*PATHS, "/browse", "/chosen"])
def test_it_is_accessible(page: Tab, client: Client, path: str) -> None:
    page.open(f"http://127.0.0.1:{client.port}{path}")
    # The script of axe-core is run by the test, not by the page, whose policy stays in force.
    assert accessibility_violations(page) == []


def test_the_answer_to_a_picture_is_accessible(page: Tab, client: Client, tmp_path: Path) -> None:
    client.enter()
    client.gallery.reference.image(77).save(tmp_path / "mine.png")
    name = client.upload((tmp_path / "mine.png").read_bytes()).headers["location"]
    page.open(f"http://127.0.0.1:{client.port}{name}")
    assert page.run("location.pathname").startswith("/like/")
    assert accessibility_violations(page) == []


def test_a_lasso_lists_what_it_is_drawn_round(page: Tab, client: Client) -> None:
    page.open(f"http://127.0.0.1:{client.port}/map?payload=1")
    box = page.run(
        "(() => { const b = document.getElementById('map').getBoundingClientRect(); return [b.x, b.y, b.width]; })()"
    )
    x, y, side = box
    corners = [(0.02, 0.02), (0.5, 0.02), (0.5, 0.5), (0.5, 0.98), (0.02, 0.98), (0.02, 0.5)]
    for at, (right, down) in enumerate(corners):
        kind = "mousePressed" if at == 0 else "mouseMoved"
        page.send(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x + right * side,
            y=y + down * side,
            button="left",
            buttons=1,
            clickCount=1,
        )
    page.send("Input.dispatchMouseEvent", type="mouseReleased", x=x + 9, y=y + 9, button="left", clickCount=1)
    data = "JSON.parse(document.getElementById('points').textContent)"
    inside = page.run(f"{data}.x.filter(v => v < {data}.scale / 2).length")
    images = page.run(f"{data}.x.length")
    said = page.run("document.getElementById('count').textContent")
    assert abs(int(said.split()[0]) - inside) <= images * 0.05
    assert page.run("document.querySelectorAll('#list img').length") == min(300, int(said.split()[0]))
    page.click("#save")
    assert len(page.downloaded("keys.txt").read_text().splitlines()) == int(said.split()[0])
    page.downloaded("keys.txt").unlink()
    assert page.errors == []


def test_the_legend_lists_a_class_without_a_mouse(page: Tab, client: Client) -> None:
    page.open(f"http://127.0.0.1:{client.port}/map?payload=0")
    page.run("document.querySelector('#legend button').focus()")
    page.press("Enter", "\r")
    ranked = client.gallery.payloads[0]
    assert page.run("document.getElementById('count').textContent").startswith(f"{ranked.count(0)} image")
    shown = page.run("[...document.querySelectorAll('#list a')].map(a => Number(a.pathname.split('/')[2]))")
    assert sorted(shown) == sorted(ranked.best(0, 0, 9999))
    assert page.errors == []


def test_a_slider_goes_through_the_order(page: Tab, client: Client) -> None:
    page.open(f"http://127.0.0.1:{client.port}/chosen/0")
    ranked = client.gallery.payloads[0]
    page.run("document.getElementById('first').focus()")
    for _ in range(5):
        page.press("ArrowRight")
    settle(page, "location.search.includes('first=')")
    first = page.run("Number(new URLSearchParams(location.search).get('first'))")
    assert first > 1
    assert page.run("document.querySelector('.shots a').pathname") == f"/image/{ranked.best(0, first - 1, 1)[0]}"
    assert page.errors == []


@pytest.mark.parametrize("path", PATHS)
def test_it_fits_a_phone_and_both_schemes(page: Tab, client: Client, tmp_path: Path, path: str) -> None:
    page.open(f"http://127.0.0.1:{client.port}{path}")
    fits_a_phone_and_both_schemes(page, tmp_path / "p.png")


def test_a_page_from_elsewhere_sees_nothing(tab: Tab, client: Client, tmp_path: Path) -> None:
    """A file of this machine shows no picture and frames no page, though the browser has the cookie."""
    home = f"http://127.0.0.1:{client.port}"
    (tmp_path / "other.html").write_text(f'<img src="{home}/thumb/1"><iframe src="{home}/"></iframe>')
    tab.open(f"file://{tmp_path / 'other.html'}")
    assert tab.run("document.images[0].naturalWidth") == 0
    tab.errors.clear()


def test_started_from_a_file_it_opens(tab: Tab, client: Client, tmp_path: Path) -> None:
    """As `plada explore` starts a browser: a strict cookie would not survive a redirect from there."""
    url = f"http://127.0.0.1:{client.port}/?token={TOKEN}"
    (tmp_path / "start.html").write_text(f'<meta http-equiv="refresh" content="0; url={url}">')
    tab.send("Network.clearBrowserCookies")
    tab.open(f"file://{tmp_path / 'start.html'}")
    settle(tab, "location.protocol === 'http:' && location.search === '' && document.querySelector('.shots') !== null")
