"""Who may ask: the browser of the person who started it, and nobody else on this machine or beyond.

The address that is printed holds a token. Whoever opens it gets a cookie for this host and port, and everything else asks for
the cookie. The page
that hands it out goes on by itself instead of redirecting: a browser that came from elsewhere would not send a strict cookie
along a redirect. The Host header must name this machine, or a foreign name could be pointed here (DNS rebinding); what another
page asks for, even of another port here, is refused by what the browser says of it (Sec-Fetch-Site).
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOSTS = frozenset({"127.0.0.1", "localhost"})
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)
_METHODS = frozenset({"GET", "HEAD", "POST"})
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<link rel="icon" href="/icon.svg">{head}<title>plada explore</title></head><body><main><h1>plada explore</h1><p>{text}</p></main></body></html>'
)


class Guard:
    """An ASGI application around another: `token` opens it, and every answer carries HEADERS, whatever it is."""

    def __init__(self, app: App, *, token: str, cookie: str) -> None:
        self.app, self.cookie = app, cookie
        self._token = token
        self._key = secrets.token_bytes(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no web sockets here; of its life the server asks nothing
            raise RuntimeError(f"plada explore answers HTTP alone, not {scope['type']}")

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(name.lower(), value) for name, value in message.get("headers", ())]
                named = {name for name, _ in given}
                own = [(name.encode(), value.encode()) for name, value in (*HEADERS, ("cache-control", "no-store"))]
                message["headers"] = [*given, *(each for each in own if each[0] not in named)]
            await send(message)

        request = Request(scope)
        answer = self._answer(request)
        await (answer or self.app)(scope, receive, sealed)

    def _answer(self, request: Request) -> Any:
        """What is answered here: a refusal, or the cookie; None where the request may pass."""
        if not _is_here(request.headers.get("host", "")):
            return _page("This address is not the one that plada explore answers to.", 421)
        if request.method not in _METHODS:
            return _page("Only GET, HEAD and POST are answered.", 405)
        token = request.query_params.get("token") if (request.scope["path"], request.method) == ("/", "GET") else None
        if token is not None:
            return self._open(request, token)
        if not is_same(request.cookies.get(self.cookie, ""), self._session(request)):
            return _page(
                "The address that plada explore printed holds a token, which opens this page. Go there first.", 403
            )
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _page("Another page asked for this. Open it from here.", 403)
        return None

    def _session(self, request: Request) -> str:
        """The cookie of those who came by this host and port: browsers send a cookie to every port, where it is of no use."""
        return hmac.new(self._key, request.headers.get("host", "").lower().encode(), "sha256").hexdigest()

    def _open(self, request: Request, token: str) -> Any:
        if not is_same(token, self._token):
            return _page(
                "This token is not that of the plada explore that runs here. Open the address it printed.", 403
            )
        opened = _page('<a href="/">Go on</a>', 200, '<meta http-equiv="refresh" content="0; url=/">')
        opened.set_cookie(self.cookie, self._session(request), httponly=True, samesite="strict")
        return opened


def _is_here(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    return (name if colon else port).lower() in HOSTS


def is_same(given: str, wanted: str) -> bool:
    """Compared in a time that does not tell how much of it is right."""
    return secrets.compare_digest(given.encode(), wanted.encode())


def _page(text: str, status: int, head: str = "") -> Any:
    return HTMLResponse(_PAGE.format(head=head, text=text), status_code=status)
