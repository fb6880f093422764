"""Nobody gets in but by the token, from this machine, by the page itself; and every answer forbids what it can."""

import importlib.util
import re
import secrets

import pytest

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

from plada.explorer import guard, pages
from plada.explorer.gallery import Gallery
from tests.explorer.conftest import COOKIE, TOKEN, Client, serving

PATHS = (
    "/",
    "/browse",
    "/image/0",
    "/thumb/0",
    "/picture/0",
    "/search?q=1",
    "/style.css",
    "/script.js",
    "/chosen/0",
    "/no",
)


@pytest.mark.parametrize("path", PATHS)
def test_without_the_cookie_nothing_is_given(stranger: Client, path: str) -> None:
    answer = stranger.ask(path)
    assert answer.status == 403
    assert "plain/a" not in answer.text
    assert "nasty" not in answer.text
    for cookie in (f"{COOKIE}=", f"{COOKIE}={TOKEN}", f"{COOKIE}=x", "other=1", "no cookie at all", f'{COOKIE}="'):
        assert stranger.ask(path, Cookie=cookie).status == 403
    assert stranger.ask("/upload", "POST", b"x").status == 403


def test_the_token_gives_a_cookie(stranger: Client) -> None:
    answer = stranger.enter()
    assert answer.status == 200
    flags = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert flags == {"httponly", "samesite=strict", "path=/"}
    assert TOKEN not in answer.headers["set-cookie"]
    assert TOKEN not in answer.text  # nor does it stay in an address: the page goes on to one without
    assert '<meta http-equiv="refresh" content="0; url=/">' in answer.text
    assert stranger.ask("/").status == 200
    # What other programs of this machine left in the same jar does no harm.
    stranger.cookie = f'odd={{"json": [1, 2]}}; =x; {stranger.cookie}; more'
    assert stranger.ask("/").status == 200


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "%ff%fe", "ß"])
def test_another_token_gives_nothing(stranger: Client, token: str) -> None:
    answer = stranger.ask(f"/?token={token.replace('ß', '%C3%9F')}")
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def test_a_token_elsewhere_or_posted_gives_nothing(stranger: Client) -> None:
    assert stranger.ask(f"/browse?token={TOKEN}").status == 403
    assert stranger.ask(f"/?token={TOKEN}", "POST", b"").status == 403


def test_secrets_are_compared_in_constant_time(stranger: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append(given)
        return given == wanted

    monkeypatch.setattr(secrets, "compare_digest", compare)
    stranger.ask("/?token=guess")
    stranger.ask("/", Cookie=f"{COOKIE}=other")
    assert compared == [b"guess", b"other"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "127.0.0.2", "[::1]:1", "0.0.0.0", "", ":1"]
)
def test_another_name_of_this_machine_is_refused(served: Client, host: str) -> None:
    for path in (f"/?token={TOKEN}", "/"):
        answer = served.ask(path, Host=host)
        assert answer.status in (400, 421)
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:8080", "LOCALHOST", "127.0.0.1"])
def test_this_machine_under_any_port_is_fine(stranger: Client, host: str) -> None:
    """A tunnel (ssh -L) has another port at its other end. The token opens it there, too."""
    answer = stranger.ask(f"/?token={TOKEN}", Host=host)
    stranger.cookie = answer.headers["set-cookie"].partition(";")[0]
    assert stranger.ask("/", Host=host).status == 200


def test_only_a_page_of_its_own_can_send_something(served: Client, nasty: Gallery) -> None:
    """The cookie alone does not do: each form has a token, new with every start."""
    (address,) = re.findall(r'action="(/upload[^"]*)"', served.ask("/").text)
    assert address == served.upload_address
    assert served.ask(address, "POST", b"x").status == 400  # let in, and no picture
    for wrong in ("/upload", "/upload?form=", f"{address}x", f"/upload?form={TOKEN}"):
        assert served.ask(wrong, "POST", b"x").status == 403


def test_a_cookie_is_of_no_use_on_another_port(served: Client, nasty: Gallery) -> None:
    """A browser sends it to every port of this machine."""
    assert served.ask("/").status == 200
    for host in ("127.0.0.1:1", f"localhost:{served.port}", "127.0.0.1"):
        assert served.ask("/", Host=host).status == 403
    with serving(nasty) as other:
        other.cookie = served.cookie
        assert other.ask("/").status == 403


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_what_another_page_asks_for_is_refused(served: Client, site: str, status: int) -> None:
    for path in ("/", "/thumb/0"):
        assert served.ask(path, Sec_Fetch_Site=site).status == status


def test_the_token_page_may_be_opened_from_elsewhere(stranger: Client) -> None:
    """A browser that is started with a file comes from there."""
    assert stranger.ask(f"/?token={TOKEN}", Sec_Fetch_Site="cross-site").status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(served: Client, method: str) -> None:
    assert served.ask("/", method).status == 405


def test_head_and_wrong_methods(served: Client) -> None:
    assert served.ask("/thumb/0", "HEAD").body == b""
    assert served.ask("/thumb/0", "POST", b"").status == 405
    assert served.ask("/upload").status == 405


def test_every_answer_forbids_what_it_can(served: Client, stranger: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise ZeroDivisionError("/secret/place")

    answers = [served.ask(path) for path in PATHS]
    answers += [
        stranger.ask("/"),
        stranger.ask(f"/?token={TOKEN}"),
        served.ask("/", Host="evil"),
        served.ask("/", "PUT"),
    ]
    monkeypatch.setattr(pages, "overview", fail)
    broken = served.ask("/")
    assert broken.status == 500
    assert "ZeroDivisionError" in broken.text
    assert "/secret/place" not in broken.text
    assert "Traceback" not in broken.text
    for answer in [*answers, broken]:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert "unsafe" not in str(policy)
        assert set(re.findall(r"[a-z]+:", str(policy.values()))) == set()  # no scheme, no host
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    assert served.ask("/browse").headers["cache-control"] == "no-store"
    assert served.ask("/thumb/0").headers["cache-control"].startswith("private, ")
    assert answers[0].headers["content-type"] == "text/html; charset=utf-8"


def test_only_http_is_answered() -> None:
    import asyncio

    async def never(*_: object) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="HTTP alone, not websocket"):
        asyncio.run(guard.Guard(never, token="t", cookie="c")({"type": "websocket"}, never, never))  # type: ignore[arg-type]
