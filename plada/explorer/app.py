"""Addresses and their endpoints. None looks at a file of a request's choice: pictures are asked for by position alone."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError
from plada.explorer import catalogue_pages, image_map, pages
from plada.explorer.components import address
from plada.explorer.gallery import LARGE, THUMB, EncodedImage, Gallery
from plada.explorer.guard import Guard, is_same
from plada.explorer.pages import SearchResults
from plada.explorer.query import KEY, POSITION, position_of, read_query
from plada.retrieval.hit import Hit

UPLOAD = 20_000_000  # bytes of a picture that is searched by
_OVERHEAD = 10_000  # bytes of a request around it
_STAYS = "private, max-age=86400"  # for what has the version of the images in its address
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0b5cad"/>'
    '<g fill="#fff"><rect x="3" y="3" width="4" height="4"/><rect x="9" y="3" width="4" height="4"/>'
    '<rect x="3" y="9" width="4" height="4"/></g><rect x="9" y="9" width="4" height="4" fill="#7fd694"/></svg>'
)
_GONE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64"><path d="M16 16 48 48M48 16 16 48" '
    'stroke="#b3261e" stroke-width="4"/></svg>'
)


def make_app(gallery: Gallery, *, token: str, cookie: str) -> Guard:
    """What the server runs: the pages behind their guard."""
    site = _Endpoints(gallery)
    plain: dict[str, Callable[[Request], Response]] = {
        "/": site.overview,
        "/browse": site.browse,
        "/search": site.search,
        "/image/{position}": site.image,
        "/like/{name}": site.like,
        "/like/{name}/picture": site.like_picture,
        "/chosen": site.payload_list,
        "/chosen/{number}": site.payload,
        "/chosen/{number}/{label}": site.payload_class,
        "/catalogues": site.catalogue_list,
        "/catalogues/{number}/{task}": site.catalogue_task,
        "/catalogues/{number}/{task}/{version}": site.catalogue_version,
        "/thumb/{position}": site.thumb,
        "/picture/{position}": site.picture,
        "/map": site.map,
        "/map.js": site.map_script,
        "/style.css": site.style,
        "/script.js": site.script,
        "/icon.svg": site.icon,
    }
    routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in plain.items()]
    routes.append(Route("/upload", site.upload, methods=["POST"]))
    handlers: dict[Any, Any] = {PladaError: site.refused, HTTPException: site.http_error, Exception: site.failed}
    app = Starlette(routes=routes, exception_handlers=handlers, max_body_size=UPLOAD + _OVERHEAD)
    app.router.redirect_slashes = False
    return Guard(app, token=token, cookie=cookie)


class _Endpoints:
    """The endpoints. All but the upload are plain functions, which run in threads."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        read = files("plada.explorer").joinpath
        base = files("plada.reports").joinpath("report.css").read_text("utf-8")
        self._style = base + read("explorer.css").read_text("utf-8")
        self._script = read("explorer.js").read_text("utf-8")
        self._map_script = read("map.js").read_text("utf-8")

    def overview(self, _: Request) -> Response:
        return HTMLResponse(pages.overview(self.gallery))

    def browse(self, request: Request) -> Response:
        return HTMLResponse(pages.browse(self.gallery, _page(request)))

    def search(self, request: Request) -> Response:
        gallery, typed = self.gallery, request.query_params.get("q", "")
        query = read_query(typed, lambda text: len(gallery.key_range(text)) > 0)
        if query.kind == POSITION:
            return _to(f"/image/{position_of(query.text, len(gallery))}")
        if query.kind == KEY:
            positions = gallery.key_range(query.text)
            if len(positions) == 1 and gallery.keys([positions.start]) == [query.text]:
                return _to(f"/image/{positions.start}")
            return HTMLResponse(pages.keys(gallery, query, positions, _page(request)))
        where, words = address("/search", q=typed), query.text
        results = self._search(
            request, where, lambda each, exact: each.near_words(words, exact=exact), f"Nearest to: {words}"
        )
        return HTMLResponse(pages.search_results(gallery, results))

    def image(self, request: Request) -> Response:
        gallery, position = self.gallery, self._position(request)
        try:
            results = self._search(
                request, f"/image/{position}", lambda each, exact: each.near_position(position, exact=exact), ""
            )
        except DataError as err:  # it has no embedding, and can be looked at all the same
            if gallery.gone:
                return self._gone()
            return HTMLResponse(pages.image(gallery, position, None, str(err)))
        return HTMLResponse(pages.image(gallery, position, results, ""))

    async def upload(self, request: Request) -> Response:
        if not is_same(request.query_params.get("form", ""), self.gallery.form_token):
            raise HTTPException(403, "This was not sent by a page of the plada explore that runs here. Open it anew.")
        async with request.form(max_files=1, max_fields=4, max_part_size=1000) as form:
            given = form.get("image")
            data = b"" if given is None or isinstance(given, str) else await given.read()
        if not data:
            raise RequestError("no picture was given. Choose a file, or drop one on the page")
        return _to(f"/like/{await run_in_threadpool(self.gallery.upload, data)}")

    def like(self, request: Request) -> Response:
        gallery, name = self.gallery, request.path_params["name"]
        where = f"/like/{name}"
        results = self._search(
            request, where, lambda each, exact: each.near_upload(name, exact=exact), "Nearest to your picture"
        )
        return HTMLResponse(pages.search_results(gallery, results))

    def like_picture(self, request: Request) -> Response:
        upload = self.gallery.uploads.get(request.path_params["name"])
        if upload is None:
            raise HTTPException(404)
        return _picture(upload.shown)

    def payload_list(self, _: Request) -> Response:
        return HTMLResponse(pages.payload_list(self.gallery))

    def payload(self, request: Request) -> Response:
        number = _number(request, "number", len(self.gallery.payloads))
        wanted = request.query_params.get("class", "")[:200]
        return HTMLResponse(pages.payload(self.gallery, number, wanted, _page(request), _page(request, "first")))

    def map(self, request: Request) -> Response:
        payloads = self.gallery.payloads
        text = request.query_params.get("payload", "0" if payloads else "")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else len(payloads)
        if text and number >= len(payloads):
            raise HTTPException(404)
        return HTMLResponse(image_map.map_page(self.gallery, number if text else None))

    def payload_class(self, request: Request) -> Response:
        number = _number(request, "number", len(self.gallery.payloads))
        label = _number(request, "label", len(self.gallery.payloads[number].classes))
        return HTMLResponse(pages.payload_class(self.gallery, number, label, _page(request)))

    def catalogue_list(self, _: Request) -> Response:
        return HTMLResponse(catalogue_pages.catalogue_list(self.gallery))

    def catalogue_task(self, request: Request) -> Response:
        number, task = self._task(request)
        return HTMLResponse(catalogue_pages.task(self.gallery, number, task))

    def catalogue_version(self, request: Request) -> Response:
        number, task = self._task(request)
        newest = self.gallery.catalogues[number].catalogue.tasks[task].version
        try:
            return HTMLResponse(
                catalogue_pages.version(self.gallery, number, task, _number(request, "version", newest + 1))
            )
        except KeyError:
            raise HTTPException(404) from None

    def _task(self, request: Request) -> tuple[int, str]:
        """Number of a catalogue and name of a task of it; else there is nothing there."""
        number, task = _number(request, "number", len(self.gallery.catalogues)), str(request.path_params["task"])
        if task not in self.gallery.catalogues[number].catalogue.tasks:
            raise HTTPException(404)
        return number, task

    def thumb(self, request: Request) -> Response:
        return self._encoded(request, THUMB)

    def picture(self, request: Request) -> Response:
        return self._encoded(request, LARGE)

    def style(self, _: Request) -> Response:
        return Response(self._style, media_type="text/css", headers={"cache-control": _STAYS})

    def script(self, _: Request) -> Response:
        return Response(self._script, media_type="text/javascript", headers={"cache-control": _STAYS})

    def map_script(self, _: Request) -> Response:
        return Response(self._map_script, media_type="text/javascript", headers={"cache-control": _STAYS})

    def icon(self, _: Request) -> Response:
        return Response(_ICON, media_type="image/svg+xml", headers={"cache-control": _STAYS})

    def refused(self, request: Request, err: Exception) -> Response:
        if self.gallery.gone:
            return self._gone()
        status = 400 if isinstance(err, RequestError) else 500
        typed = request.query_params.get("q", "")
        return HTMLResponse(pages.failure(self.gallery, status, str(err), typed), status_code=status)

    def http_error(self, _: Request, err: HTTPException) -> Response:
        text = "There is nothing at this address." if err.status_code == 404 else str(err.detail)
        return HTMLResponse(pages.failure(self.gallery, err.status_code, text), status_code=err.status_code)

    def failed(self, _: Request, err: Exception) -> Response:
        if self.gallery.gone:
            return self._gone()
        text = f"{type(err).__name__}: a mistake of plada's; its terminal says more. Please report it."
        return HTMLResponse(pages.failure(self.gallery, 500, text), status_code=500)

    def _gone(self) -> Response:
        text = f"The index '{self.gallery.index.name}' is not there any more, or another one stands in its place. Start plada explore again."
        return HTMLResponse(pages.failure(self.gallery, 410, text), status_code=410)

    def _encoded(self, request: Request, side: int) -> Response:
        try:
            return _picture(self.gallery.picture(self._position(request), side))
        except (DataError, ReferenceMismatch):  # the page says so in words; here must be a picture
            return Response(_GONE, media_type="image/svg+xml", status_code=404)

    def _position(self, request: Request) -> int:
        return _number(request, "position", len(self.gallery))

    def _search(
        self, request: Request, where: str, search: Callable[[Gallery, bool], list[Hit]], title: str
    ) -> SearchResults:
        exact = request.query_params.get("exact") == "1"
        hits = search(self.gallery, exact)
        beside: list[tuple[Gallery, list[Hit] | str]] = []
        for other in self.gallery.beside:
            try:
                beside.append((other, search(other, exact)))
            except (RequestError, DataError) as err:
                beside.append((other, str(err)))
        return SearchResults(
            title=title,
            picture=f"{where}/picture" if where.startswith("/like/") else "",
            hits=hits,
            address=where,
            page=_page(request),
            typed=request.query_params.get("q", ""),
            exact=exact if self.gallery.approximate else None,
            beside=beside,
        )


def _number(request: Request, what: str, below: int) -> int:
    """A number of the path, 0 .. below - 1; else there is nothing there."""
    try:
        return position_of(request.path_params[what], below)
    except RequestError as err:
        raise HTTPException(404) from err


def _page(request: Request, what: str = "page") -> int:
    """The page (or another number from 1) that is asked for, from 0; the first where that is no number."""
    text = request.query_params.get(what, "1")
    return max(int(text), 1) - 1 if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _picture(shown: EncodedImage) -> Response:
    return Response(shown.data, media_type=shown.kind, headers={"cache-control": _STAYS})


def _to(where: str) -> Response:
    return RedirectResponse(where, status_code=303)
