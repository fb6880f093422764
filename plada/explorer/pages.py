"""The pages: an overview, all images in order, what a search found, one image, what a payload chose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from plada.common.units import format_size
from plada.explorer.components import Pager, Tile, address, facts, grid, is_small, layout, note, paged
from plada.explorer.gallery import LARGE, Gallery
from plada.explorer.payloads import RankedPayload
from plada.explorer.query import KEY, WORDS, Query
from plada.reports.findings import even_ranks, few_images
from plada.reports.text import digits, esc, many, name
from plada.retrieval.hit import Hit
from plada.sources.synset_names import name_key

EACH = 60  # pictures on a page
CLASSES = 20  # classes on a page of a payload
_STRIP = 12  # pictures of each of them
_FEW = ' <span class="few">few images</span>'


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResults:
    """What a search gave: `title` says of what, `picture` is the address of the picture that was asked with, if one was;
    `address` leads here again; `exact` is None where there is but one way to search; `beside` are the answers of other indexes of
    the same images, or why there is none."""

    title: str
    picture: str
    hits: Sequence[Hit]
    address: str
    page: int
    typed: str = ""
    exact: bool | None = None
    beside: Sequence[tuple[Gallery, Sequence[Hit] | str]] = ()


def overview(gallery: Gallery) -> str:
    """The first page: what this index is, what was chosen from it, and an even sample of it."""
    info, images = gallery.index.info, len(gallery)
    cards = [
        (digits(images), f"images of {name(gallery.reference.collection.location)}"),
        (esc(str(info["encoder"]["name"]), 40), f"encoder, {digits(gallery.index.dimension)} dimensions"),
    ]
    if images > gallery.index.readable:
        cards.append((digits(images - gallery.index.readable), "cannot be read; they have no neighbours"))
    if gallery.payloads:
        cards.append((digits(len(gallery.payloads)), f"payload{'s' if len(gallery.payloads) > 1 else ''} to look at"))
    if gallery.catalogues:
        tasks = sum(len(each.catalogue.tasks) for each in gallery.catalogues)
        cards.append((digits(tasks), f'<a href="/catalogues">task{"s" if tasks != 1 else ""} in catalogues</a>'))
    shown = "".join(f"<li><b>{figure}</b><span>{words}</span></li>" for figure, words in cards)
    said = [*([f"No search by words: {gallery.no_words}."] if gallery.no_words else []), *gallery.notes]
    sample = even_ranks(images, EACH)
    all_of_them = '<a href="/browse">All in order</a>'
    payloads = f"<h2>What was chosen</h2>{_list(gallery)}" if gallery.payloads else ""
    main = (
        f'<h1>{name(gallery.index.name)}</h1><ul class="cards">{shown}</ul>{note(said)}{payloads}'
        f"<h2>Through all of it</h2><p>{many(len(sample), 'image')}, evenly from the first to the last. {all_of_them}. A click shows "
        f"one with its neighbours.</p>{_grid(gallery, sample)}"
    )
    return whole_page(gallery, "Overview", main)


def browse(gallery: Gallery, page: int) -> str:
    """All images in order of position."""
    pager = Pager(address="/browse", wanted=page, total=len(gallery), each=EACH)
    main = f"<h1>All images in order</h1>{_range(gallery, pager)}"
    return whole_page(gallery, "In order", main)


def keys(gallery: Gallery, query: Query, positions: range, page: int) -> str:
    """The images whose key begins with what was typed."""
    typed = f"{KEY}:{query.text}"
    pager = Pager(address=address("/search", q=typed), wanted=page, total=len(positions), each=EACH)
    words = ""
    if not query.explicit and not gallery.no_words:
        other = escape(address("/search", q=f"{WORDS}:{query.text}"))
        words = f'<p>Were these meant as words? <a href="{other}">Search for what they say</a></p>'
    title = f"Keys that begin with {query.text}"
    body = _range(gallery, pager, positions.start) if positions else "<p>There is none.</p>"
    main = f"<h1>Keys that begin with {name(query.text, 200)}</h1>{words}{body}"
    return whole_page(gallery, title, main, typed=typed)


def search_results(gallery: Gallery, results: SearchResults) -> str:
    """What is nearest to words or to a picture."""
    asked = f'<p><img class="asked" src="{escape(results.picture)}" alt="your picture"></p>' if results.picture else ""
    main = f"<h1>{esc(results.title, 200)}</h1>{asked}{_hits(gallery, results)}"
    return whole_page(gallery, results.title, main, typed=results.typed)


def image(gallery: Gallery, position: int, results: SearchResults | None, problem: str) -> str:
    """One image, what is known of it, and its neighbours; `problem` says why there are none."""
    row = gallery.row(position)
    wrong = gallery.problem(row)
    key = esc(row.key, 4000)
    picture = (
        f'<p class="gone">cannot be read: {esc(wrong, 400)}</p>'
        if wrong
        else f'<img class="large{" small" if is_small(row.width, row.height) else ""}" src="/picture/{position}?v={gallery.version}" '
        f'alt="{key}"{_size(row.width, row.height)}>'
    )
    pixels = f"{digits(row.width)} x {digits(row.height)} pixels, " if row.width else ""
    rows = [
        ("position", str(position)),
        ("key", _folders(row.key)),
        *([("name", name(called))] if (called := name_key(row.key, gallery.names)) else []),
        ("stored", f"{pixels}{format_size(row.size).replace(' ', '&nbsp;')}"),
        *((ranked.name, _placement(gallery, number, position)) for number, ranked in enumerate(gallery.payloads)),
    ]
    around = [
        f'<li><a href="/image/{position - 1}" rel="prev">previous</a></li>' if position else "",
        f'<li><a href="/browse?page={position // EACH + 1}">among those around it</a></li>',
        f'<li><a href="/image/{position + 1}" rel="next">next</a></li>' if position + 1 < len(gallery) else "",
    ]
    main = (
        f'<h1>Image {position}</h1><nav class="pager" aria-label="Other images"><ul>{"".join(around)}</ul></nav>'
        f'<div class="one"><div class="view">{picture}</div>{facts(rows)}</div><h2>Nearest to it</h2>'
        f"{_hits(gallery, results) if results is not None else note([problem])}"
    )
    return whole_page(gallery, f"Image {position}: {row.key}", main, typed=f"position:{position}")


def payload_list(gallery: Gallery) -> str:
    """The payloads that were given."""
    if gallery.payloads:
        body = _list(gallery)
    else:
        body = (
            "<p>None was named. To see what a payload chose from this index, name it after the index: "
            "<code>plada explore NAME PAYLOAD...</code>, and its table with <code>--selection</code>.</p>"
        )
    return whole_page(gallery, "Payloads", f"<h1>Payloads</h1>{body}")


def payload(gallery: Gallery, number: int, wanted: str, page: int, first: int = 0) -> str:
    """One payload, class by class; `wanted` is a part of the names of classes that are shown; of each class images are shown from
    the `first` (0) on."""
    ranked = gallery.payloads[number]
    most = max((ranked.count(label) for label in range(len(ranked.classes))), default=0)
    first = min(first, max(0, most - 1))
    few = few_images([ranked.count(label) for label in range(len(ranked.classes))])
    fits = [label for label, each in enumerate(ranked.classes) if wanted.casefold() in each.casefold()]
    asked = {**({"class": wanted} if wanted else {}), **({"first": str(first + 1)} if first else {})}
    where = address(f"/chosen/{number}", **asked)
    pager = Pager(address=where, wanted=page, total=len(fits), each=CLASSES)
    filtering = ""
    if len(ranked.classes) > CLASSES:
        filtering = (
            f'<form class="filter" action="/chosen/{number}" method="get"><label for="class">Classes with</label> '
            f'<input type="search" id="class" name="class" value="{esc(wanted, 200)}" maxlength="200"> '
            f'<button type="submit">in their name</button></form>'
        )
    if most > _STRIP:
        kept = f'<input type="hidden" name="class" value="{esc(wanted, 200)}">' if wanted else ""
        filtering += (
            f'<form class="filter order" action="/chosen/{number}" method="get"><label for="first">Of each class from image</label> '
            f'<input type="range" id="first" name="first" min="1" max="{most}" step="{_STRIP if most > 10 * _STRIP else 1}" '
            f'value="{first + 1}"> <output for="first">{first + 1}</output> of {digits(most)} on{kept} <button type="submit">Show</button></form>'
        )
    parts = []
    for label in (fits[at] for at in pager.shown):
        count = ranked.count(label)
        more = (
            f', <a href="/chosen/{number}/{label}">all of {name(ranked.classes[label])}</a>' if count > _STRIP else ""
        )
        parts.append(
            f'<section aria-labelledby="c{label}"><h2 id="c{label}">{name(ranked.classes[label])} '
            f"<small>{many(count, 'image')}{more}</small>{_FEW if count < few else ''}</h2>"
            f"{_class(gallery, ranked, label, first, _STRIP, strip=True) if first < count else '<p>It has no more images.</p>'}</section>"
        )
    none = "" if fits else "<p>No class has that in its name.</p>"
    main = (
        f"<h1>{name(ranked.name)}</h1><p>{_about(ranked)} {_order(ranked)}</p>{filtering}{none}"
        f"{paged(pager, ''.join(parts))}"
    )
    return whole_page(gallery, ranked.name, main)


def payload_class(gallery: Gallery, number: int, label: int, page: int) -> str:
    """All images of one class of a payload."""
    ranked = gallery.payloads[number]
    pager = Pager(address=f"/chosen/{number}/{label}", wanted=page, total=ranked.count(label), each=EACH)
    main = (
        f"<h1>{name(ranked.classes[label], 200)}</h1><p>{many(pager.total, 'image')} of "
        f'<a href="/chosen/{number}">{name(ranked.name)}</a>. {_order(ranked)}</p>'
        f"{paged(pager, _class(gallery, ranked, label, pager.shown.start, len(pager.shown)))}"
    )
    return whole_page(gallery, f"{ranked.classes[label]} of {ranked.name}", main)


def failure(gallery: Gallery, status: int, message: str, typed: str = "") -> str:
    """What went wrong, in the words of the error."""
    title = "Not found" if status == 404 else "That did not work"
    return whole_page(gallery, title, f"<h1>{title}</h1>{note([message])}", typed=typed)


def grid_of(gallery: Gallery, positions: Sequence[int], said: Mapping[int, str]) -> str:
    """Pictures with a line of their own below each."""
    tiles = [replace(_tile(gallery, position), marks=(), said=said.get(position, "")) for position in positions]
    return grid(tiles, gallery.version)


def whole_page(gallery: Gallery, title: str, main: str, typed: str = "") -> str:
    """A page of this gallery around `main` (HTML)."""
    words = "" if gallery.no_words else "Words, a "
    hint = f"{words or 'A '}position, or the beginning of a key. <code>position:</code>, <code>key:</code>"
    hint += "" if gallery.no_words else ", <code>text:</code>"
    upload = address("/upload", form=gallery.form_token) if gallery.encoder is not None else ""
    return layout(
        title, main, index=gallery.index.name, version=gallery.version, hint=f"{hint} in front say which is meant.", typed=typed,
        upload=upload, links=' <a href="/catalogues">catalogues</a>' if gallery.catalogues else "",
    )  # fmt: skip


def _range(gallery: Gallery, pager: Pager, start: int = 0) -> str:
    positions = [start + at for at in pager.shown]
    said = f"{positions[0]} to {positions[-1]}" if positions else "none"
    lead = f"<p>{many(pager.total, 'image')}; here are the positions {said}.</p>"
    return lead + paged(pager, _grid(gallery, positions))


def _hits(gallery: Gallery, results: SearchResults) -> str:
    """The hits of this index, and beside them those of others."""
    if not results.beside:
        return _own_hits(gallery, results)
    columns = [(gallery.index.name, _own_hits(gallery, results))]
    for other, found in results.beside:
        if isinstance(found, str):
            columns.append((other.index.name, note([found])))
            continue
        first = found[: EACH // 2]
        scores = {hit.position: hit.score for hit in first}
        body = f"<p>The nearest {digits(len(first))}.</p>{_grid(gallery, [hit.position for hit in first], scores)}"
        columns.append((other.index.name, body))
    sections = "".join(f"<div><h2>{name(title)}</h2>{body}</div>" for title, body in columns)
    return f'<div class="columns">{sections}</div>'


def _own_hits(gallery: Gallery, results: SearchResults) -> str:
    pager = Pager(address=results.address, wanted=results.page, total=len(results.hits), each=EACH)
    lead = f"The nearest {digits(len(results.hits))} of {digits(gallery.index.readable)}, with the cosine to it; 1 is the same."
    if results.exact is not None:
        exactly = f"{results.address}{'&' if '?' in results.address else '?'}exact=1"
        if results.exact:
            pager = replace(pager, address=exactly)
            lead += " Every image was compared."
        else:
            lead += f' The approximate index may miss one. <a href="{escape(exactly)}">Compare with every one</a>'
    shown = [results.hits[at] for at in pager.shown]
    scores = {hit.position: hit.score for hit in shown}
    pictures = _grid(gallery, [hit.position for hit in shown], scores)
    return f"<p>{lead}</p>{paged(pager, pictures)}"


def _grid(gallery: Gallery, positions: Sequence[int], scores: dict[int, float] | None = None) -> str:
    tiles = [_tile(gallery, position, (scores or {}).get(position)) for position in positions]
    return grid(tiles, gallery.version, several=len(gallery.payloads) > 1)


def _tile(gallery: Gallery, position: int, score: float | None = None, *, without: RankedPayload | None = None) -> Tile:
    row = gallery.row(position)
    return Tile(
        position=position,
        key=row.key,
        score=score,
        problem=gallery.problem(row),
        small=is_small(row.width, row.height),
        what=name_key(row.key, gallery.names),
        marks=[(ranked, placement) for _, ranked, placement in gallery.placements(position) if ranked is not without],
    )


def _class(gallery: Gallery, ranked: RankedPayload, label: int, first: int, count: int, *, strip: bool = False) -> str:
    """Some images of a class, with what other payloads made of them: its own mark would only say the class again."""
    tiles = []
    for position in ranked.best(label, first, count):
        placement = ranked.find(position)
        score = placement.score if placement is not None else None
        tiles.append(_tile(gallery, position, score, without=ranked))
    return grid(tiles, gallery.version, several=True, label=ranked.classes[label], strip=strip)


def _list(gallery: Gallery) -> str:
    items = "".join(
        f'<li><a href="/chosen/{number}">{name(ranked.name)}</a> {_about(ranked)}</li>'
        for number, ranked in enumerate(gallery.payloads)
    )
    return f'<ul class="plain">{items}</ul>'


def _about(ranked: RankedPayload) -> str:
    size = f" in {format_size(ranked.bytes)}" if ranked.bytes is not None else ""
    target = f" for {name(ranked.target)}" if ranked.target else ""
    return f"{many(len(ranked.payload), 'image')} of {many(len(ranked.classes), 'class')}{target}{size}."


def _order(ranked: RankedPayload) -> str:
    if ranked.scores is not None:
        return "In the order in which the rule chose them, with its scores."
    return "By position: no payload carries ranks or scores; its table, given with <code>--selection</code>, does."


def _placement(gallery: Gallery, number: int, position: int) -> str:
    ranked = gallery.payloads[number]
    placement = ranked.find(position)
    if placement is None:
        return "not chosen"
    score = f", score {placement.score:.4g}" if placement.score is not None else ""
    place = (
        f"the {_ordinal(placement.place)} of {digits(placement.count)}"
        if ranked.scores is not None
        else f"one of {digits(placement.count)}"
    )
    return f'chosen as <a href="/chosen/{number}/{placement.label}">{name(ranked.classes[placement.label])}</a>, {place}{score}'


def _ordinal(place: int) -> str:
    ending = "th" if 10 <= place % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{digits(place)}{ending}"


def _folders(key: str) -> str:
    """A key whose folders lead to what else lies in them."""
    parts = key.split("/")
    linked = ""
    for at, part in enumerate(parts[:-1]):
        where = escape(address("/search", q=f"{KEY}:{'/'.join(parts[: at + 1])}/"))
        linked += f'<a href="{where}">{esc(part, 4000)}</a>/'
    return f'<bdi class="mono">{linked}{esc(parts[-1], 4000)}</bdi>'


def _size(width: int, height: int) -> str:
    """Attributes that keep the place of a picture free until it is there."""
    if not width or not height:
        return ""
    share = min(1.0, LARGE / max(width, height))
    return f' width="{max(1, round(width * share))}" height="{max(1, round(height * share))}"'
