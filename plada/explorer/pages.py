"""The pages: an overview, all images in order, what a search found, one image, what a payload chose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from plada.common.units import format_size
from plada.explorer.choices import Choice
from plada.explorer.contents import LARGE, Contents
from plada.explorer.parts import (
    Pages,
    Shot,
    address,
    facts,
    grid,
    is_small,
    layout,
    note,
    paged,
)
from plada.explorer.query import KEY, WORDS, Query
from plada.reports.findings import even_ranks
from plada.reports.text import digits, esc, many, name
from plada.retrieval.index import Hit

EACH = 60  # pictures on a page
CLASSES = 20  # classes on a page of a payload
_STRIP = 12  # pictures of each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search gave: `title` says of what, `picture` is the address of the picture that was asked with, if one was;
    `address` leads here again; `exact` is None where there is but one way to search."""

    title: str
    picture: str
    hits: Sequence[Hit]
    address: str
    page: int
    typed: str = ""
    exact: bool | None = None


def overview(held: Contents) -> str:
    """The first page: what this index is, what was chosen from it, and an even sample of it."""
    info, images = held.index.info, len(held)
    cards = [
        (digits(images), f"images of {name(held.reference.collection.location)}"),
        (esc(str(info["encoder"]["name"]), 40), f"encoder, {digits(held.index.dimension)} dimensions"),
    ]
    if images > held.index.readable:
        cards.append((digits(images - held.index.readable), "cannot be read; they have no neighbours"))
    if held.choices:
        cards.append((digits(len(held.choices)), f"payload{'s' if len(held.choices) > 1 else ''} to look at"))
    shown = "".join(f"<li><b>{figure}</b><span>{words}</span></li>" for figure, words in cards)
    said = [*([f"No search by words: {held.no_words}."] if held.no_words else []), *held.notes]
    sample = even_ranks(images, EACH)
    all_of_them = '<a href="/browse">All in order</a>'
    payloads = f"<h2>What was chosen</h2>{_list(held)}" if held.choices else ""
    main = (
        f'<h1>{name(held.index.name)}</h1><ul class="cards">{shown}</ul>{note(said)}{payloads}'
        f"<h2>Through all of it</h2><p>{many(len(sample), 'image')}, evenly from the first to the last. {all_of_them}. A click shows "
        f"one with its neighbours.</p>{_grid(held, sample)}"
    )
    return _page(held, "Overview", main)


def browse(held: Contents, page: int) -> str:
    """All images in order of position."""
    pages = Pages(address="/browse", wanted=page, total=len(held), each=EACH)
    main = f"<h1>All images in order</h1>{_range(held, pages)}"
    return _page(held, "In order", main)


def keys(held: Contents, query: Query, found: range, page: int) -> str:
    """The images whose key begins with what was typed."""
    typed = f"{KEY}:{query.text}"
    pages = Pages(address=address("/search", q=typed), wanted=page, total=len(found), each=EACH)
    words = ""
    if not query.said and not held.no_words:
        other = escape(address("/search", q=f"{WORDS}:{query.text}"))
        words = f'<p>Were these meant as words? <a href="{other}">Search for what they say</a></p>'
    title = f"Keys that begin with {query.text}"
    body = _range(held, pages, found.start) if found else "<p>There is none.</p>"
    main = f"<h1>Keys that begin with {name(query.text, 200)}</h1>{words}{body}"
    return _page(held, title, main, typed=typed)


def results(held: Contents, found: Found) -> str:
    """What is nearest to words or to a picture."""
    asked = f'<p><img class="asked" src="{escape(found.picture)}" alt="your picture"></p>' if found.picture else ""
    main = f"<h1>{esc(found.title, 200)}</h1>{asked}{_hits(held, found)}"
    return _page(held, found.title, main, typed=found.typed)


def image(held: Contents, position: int, found: Found | None, problem: str) -> str:
    """One image, what is known of it, and its neighbours; `problem` says why there are none."""
    row = held.row(position)
    wrong = held.problem(row)
    key = esc(row.key, 4000)
    picture = (
        f'<p class="gone">cannot be read: {esc(wrong, 400)}</p>'
        if wrong
        else f'<img class="large{" small" if is_small(row.width, row.height) else ""}" src="/picture/{position}?v={held.version}" '
        f'alt="{key}"{_size(row.width, row.height)}>'
    )
    pixels = f"{digits(row.width)} x {digits(row.height)} pixels, " if row.width else ""
    rows = [
        ("position", str(position)),
        ("key", _folders(row.key)),
        ("stored", f"{pixels}{format_size(row.size).replace(' ', '&nbsp;')}"),
        *((choice.name, _verdict(held, number, position)) for number, choice in enumerate(held.choices)),
    ]
    around = [
        f'<li><a href="/image/{position - 1}" rel="prev">previous</a></li>' if position else "",
        f'<li><a href="/browse?page={position // EACH + 1}">among those around it</a></li>',
        f'<li><a href="/image/{position + 1}" rel="next">next</a></li>' if position + 1 < len(held) else "",
    ]
    main = (
        f'<h1>Image {position}</h1><nav class="pager" aria-label="Other images"><ul>{"".join(around)}</ul></nav>'
        f'<div class="one"><div class="view">{picture}</div>{facts(rows)}</div><h2>Nearest to it</h2>'
        f"{_hits(held, found) if found is not None else note([problem])}"
    )
    return _page(held, f"Image {position}: {row.key}", main, typed=f"position:{position}")


def chosen(held: Contents) -> str:
    """The payloads that were given."""
    if held.choices:
        body = _list(held)
    else:
        body = (
            "<p>None was named. To see what a payload chose from this index, name it after the index: "
            "<code>plada explore NAME PAYLOAD...</code>, and its table with <code>--selection</code>.</p>"
        )
    return _page(held, "Payloads", f"<h1>Payloads</h1>{body}")


def payload(held: Contents, number: int, wanted: str, page: int) -> str:
    """One payload, class by class; `wanted` is a part of the names of classes that are shown."""
    choice = held.choices[number]
    fits = [label for label, each in enumerate(choice.classes) if wanted.casefold() in each.casefold()]
    where = address(f"/chosen/{number}", **({"class": wanted} if wanted else {}))
    pages = Pages(address=where, wanted=page, total=len(fits), each=CLASSES)
    filtering = ""
    if len(choice.classes) > CLASSES:
        filtering = (
            f'<form class="filter" action="/chosen/{number}" method="get"><label for="class">Classes with</label> '
            f'<input type="search" id="class" name="class" value="{esc(wanted, 200)}" maxlength="200"> '
            f'<button type="submit">in their name</button></form>'
        )
    parts = []
    for label in (fits[at] for at in pages.shown):
        count = choice.count(label)
        more = (
            f', <a href="/chosen/{number}/{label}">all of {name(choice.classes[label])}</a>' if count > _STRIP else ""
        )
        parts.append(
            f'<section aria-labelledby="c{label}"><h2 id="c{label}">{name(choice.classes[label])} '
            f"<small>{many(count, 'image')}{more}</small></h2>{_class(held, choice, label, 0, _STRIP, strip=True)}</section>"
        )
    none = "" if fits else "<p>No class has that in its name.</p>"
    main = (
        f"<h1>{name(choice.name)}</h1><p>{_about(choice)} {_order(choice)}</p>{filtering}{none}"
        f"{paged(pages, ''.join(parts))}"
    )
    return _page(held, choice.name, main)


def one_class(held: Contents, number: int, label: int, page: int) -> str:
    """All images of one class of a payload."""
    choice = held.choices[number]
    pages = Pages(address=f"/chosen/{number}/{label}", wanted=page, total=choice.count(label), each=EACH)
    main = (
        f"<h1>{name(choice.classes[label], 200)}</h1><p>{many(pages.total, 'image')} of "
        f'<a href="/chosen/{number}">{name(choice.name)}</a>. {_order(choice)}</p>'
        f"{paged(pages, _class(held, choice, label, pages.shown.start, len(pages.shown)))}"
    )
    return _page(held, f"{choice.classes[label]} of {choice.name}", main)


def failure(held: Contents, status: int, message: str, typed: str = "") -> str:
    """What went wrong, in the words of the error."""
    title = "Not found" if status == 404 else "That did not work"
    return _page(held, title, f"<h1>{title}</h1>{note([message])}", typed=typed)


def _page(held: Contents, title: str, main: str, typed: str = "") -> str:
    words = "" if held.no_words else "Words, a "
    hint = f"{words or 'A '}position, or the beginning of a key. <code>position:</code>, <code>key:</code>"
    hint += "" if held.no_words else ", <code>text:</code>"
    pictures = held.encoder is not None
    return layout(
        title, main, index=held.index.name, version=held.version, hint=f"{hint} in front say which is meant.", typed=typed,
        pictures=pictures,
    )  # fmt: skip


def _range(held: Contents, pages: Pages, start: int = 0) -> str:
    positions = [start + at for at in pages.shown]
    said = f"{positions[0]} to {positions[-1]}" if positions else "none"
    lead = f"<p>{many(pages.total, 'image')}; here are the positions {said}.</p>"
    return lead + paged(pages, _grid(held, positions))


def _hits(held: Contents, found: Found) -> str:
    pages = Pages(address=found.address, wanted=found.page, total=len(found.hits), each=EACH)
    lead = (
        f"The nearest {digits(len(found.hits))} of {digits(held.index.readable)}, with the cosine to it; 1 is the same."
    )
    if found.exact is not None:
        exactly = f"{found.address}{'&' if '?' in found.address else '?'}exact=1"
        if found.exact:
            pages = replace(pages, address=exactly)
            lead += " Every image was compared."
        else:
            lead += f' The approximate index may miss one. <a href="{escape(exactly)}">Compare with every one</a>'
    shown = [found.hits[at] for at in pages.shown]
    scores = {hit.position: hit.score for hit in shown}
    pictures = _grid(held, [hit.position for hit in shown], scores)
    return f"<p>{lead}</p>{paged(pages, pictures)}"


def _grid(held: Contents, positions: Sequence[int], scores: dict[int, float] | None = None) -> str:
    shots = [_shot(held, position, (scores or {}).get(position)) for position in positions]
    return grid(shots, held.version, several=len(held.choices) > 1)


def _shot(held: Contents, position: int, score: float | None = None, *, without: Choice | None = None) -> Shot:
    row = held.row(position)
    return Shot(
        position=position,
        key=row.key,
        score=score,
        problem=held.problem(row),
        small=is_small(row.width, row.height),
        marks=[(choice, verdict) for _, choice, verdict in held.verdicts(position) if choice is not without],
    )


def _class(held: Contents, choice: Choice, label: int, first: int, count: int, *, strip: bool = False) -> str:
    """Some images of a class, with what other payloads made of them: its own mark would only say the class again."""
    shots = []
    for position in choice.best(label, first, count):
        verdict = choice.find(position)
        score = verdict.score if verdict is not None else None
        shots.append(_shot(held, position, score, without=choice))
    return grid(shots, held.version, several=True, label=choice.classes[label], strip=strip)


def _list(held: Contents) -> str:
    items = "".join(
        f'<li><a href="/chosen/{number}">{name(choice.name)}</a> {_about(choice)}</li>'
        for number, choice in enumerate(held.choices)
    )
    return f'<ul class="plain">{items}</ul>'


def _about(choice: Choice) -> str:
    size = f" in {format_size(choice.bytes)}" if choice.bytes is not None else ""
    target = f" for {name(choice.target)}" if choice.target else ""
    return f"{many(len(choice.payload), 'image')} of {many(len(choice.classes), 'class')}{target}{size}."


def _order(choice: Choice) -> str:
    if choice.scores is not None:
        return "Best first, as its rule ranked them, with its scores."
    return "By position: no payload carries ranks or scores; its table, given with <code>--selection</code>, does."


def _verdict(held: Contents, number: int, position: int) -> str:
    choice = held.choices[number]
    verdict = choice.find(position)
    if verdict is None:
        return "not chosen"
    score = f", score {verdict.score:.4g}" if verdict.score is not None else ""
    place = (
        f"the {_ordinal(verdict.place)} of {digits(verdict.count)}"
        if choice.scores is not None
        else f"one of {digits(verdict.count)}"
    )
    return f'chosen as <a href="/chosen/{number}/{verdict.label}">{name(choice.classes[verdict.label])}</a>, {place}{score}'


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
