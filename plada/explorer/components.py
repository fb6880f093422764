"""What the pages are put together from. All text from data goes through plada.reports.text."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode

from plada.explorer.payloads import Placement, RankedPayload
from plada.reports.text import digits, esc, name

_KEY = 60  # letters of a key below a picture: of a longer one its end, which tells images apart
_SMALL = 64  # pixels below which a picture is shown enlarged with its pixels sharp


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One picture of a grid. `problem` says why it cannot be shown, "" where it can; `small` that it has few pixels;
    `marks` are as what payloads chose it; `said` is one more line below it; `what` the name of its synset."""

    position: int
    key: str
    score: float | None = None
    problem: str = ""
    small: bool = False
    marks: Sequence[tuple[RankedPayload, Placement]] = ()
    said: str = ""
    what: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pager:
    """Page `wanted` (0) of `total` things, `each` a page, or the last where there are fewer; `address` leads to another with
    `page`, from 1, behind it."""

    address: str
    wanted: int
    total: int
    each: int

    @property
    def at(self) -> int:
        return min(self.wanted, self.count - 1)

    @property
    def count(self) -> int:
        return max(1, -(-self.total // self.each))

    @property
    def shown(self) -> range:
        """What stands on this page."""
        return range(min(self.at * self.each, self.total), min((self.at + 1) * self.each, self.total))


def is_small(width: int, height: int) -> bool:
    """Whether a picture has so few pixels that each should be seen."""
    return 0 < max(width, height) < _SMALL


def layout(
    title: str, main: str, *, index: str, version: str, hint: str, typed: str = "", upload: str = "", links: str = ""
) -> str:
    """A whole page. `title` is text, `main` HTML; `typed` is what the search box holds, `hint` (HTML) what it takes; a picture
    can be sent to the address `upload`, if there is one; `links` (HTML) stand behind those that every page has."""
    upload_form = (
        f'<form class="upload" action="{esc(upload, 2000)}" method="post" enctype="multipart/form-data">'
        '<label for="image">Or by a picture of yours</label>'
        '<input type="file" id="image" name="image" accept="image/*" required> <button type="submit">Search by it</button>'
        '<output id="said" role="status"></output></form>'
        if upload
        else ""
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css?v={version}">
<script src="/script.js?v={version}" defer></script>
<title>{esc(title)} - {esc(index)} - plada explore</title>
</head>
<body>
<a class="skip" href="#main">To the pictures</a>
<header>
<nav aria-label="Where to"><a class="home" href="/">{name(index)}</a> <a href="/browse">in order</a> <a href="/chosen">payloads</a> <a href="/map">map</a>{links}</nav>
<div class="asking">
<form class="search" action="/search" method="get" role="search">
<label for="q">Search</label>
<input type="search" id="q" name="q" value="{esc(typed, 2000)}" maxlength="2000" aria-describedby="hint" autocomplete="off" required>
<button type="submit">Search</button>
<p id="hint" class="quiet">{hint}</p></form>
{upload_form}</div>
</header>
<main id="main" tabindex="-1">
{main}
</main>
<footer><p>plada explore, on this machine alone. Ctrl-C in its terminal ends it.</p></footer>
</body>
</html>
"""


def grid(tiles: Sequence[Tile], version: str, *, several: bool = False, label: str = "", strip: bool = False) -> str:
    """Pictures as links; `several` names the payload of each mark; a `strip` is one row, which can be scrolled."""
    items = "".join(_tile(tile, version, several) for tile in tiles)
    kind = "shots strip" if strip else "shots"
    return f'<ul class="{kind}" aria-label="{esc(label) or "Pictures"}">{items}</ul>'


def _tile(tile: Tile, version: str, several: bool) -> str:
    key = esc(tile.key, 200)
    if tile.problem:
        inside = f'<span class="gone">{key}: {esc(tile.problem, 80)}</span>'
    else:
        small = ' class="small"' if tile.small else ""
        inside = f'<img{small} src="/thumb/{tile.position}?v={version}" alt="{key}" loading="lazy" decoding="async">'
    what = f'<span class="what">{name(tile.what, 40)}</span>' if tile.what else ""
    score = f'<span class="score">{tile.score:.3f}</span>' if tile.score is not None else ""
    marks = "".join(_mark(ranked, placement, several) for ranked, placement in tile.marks)
    ending = tile.key if len(tile.key) <= _KEY else f"…{tile.key[1 - _KEY :]}"
    marks += f'<span class="mark">{name(tile.said, 48)}</span>' if tile.said else ""
    return (
        f'<li><a href="/image/{tile.position}" title="{key}"><span class="frame">{inside}</span>{what}{score}'
        f'<span class="key" aria-hidden="true">{name(ending)}</span>{marks}</a></li>'
    )


def _mark(ranked: RankedPayload, placement: Placement, several: bool) -> str:
    """As what a payload chose a picture, below it."""
    file = f"<small>{name(ranked.name.removesuffix('.plada'), 24)}</small> " if several else ""
    return f'<span class="mark"><span class="unseen">chosen as </span>{file}{name(ranked.classes[placement.label], 24)}</span>'


def paged(pager: Pager, body: str) -> str:
    """What stands on a page, between links to the pages around it."""
    return f"{_pager(pager, 'Pages')}{body}{_pager(pager, 'Pages, once more')}"


def _pager(pager: Pager, label: str) -> str:
    """Links to the pages around; nothing where there is one page alone."""
    if pager.count == 1:
        return ""
    here, last = pager.at, pager.count - 1
    joint = "&amp;" if "?" in pager.address else "?"

    def link(to: int, words: str, rel: str = "") -> str:
        if not 0 <= to <= last or to == here:
            return f'<li><span aria-hidden="true">{words}</span></li>'
        relation = f' rel="{rel}"' if rel else ""
        return f'<li><a href="{escape(pager.address)}{joint}page={to + 1}"{relation}>{words}</a></li>'

    said = f"<li>page {digits(here + 1)} of {digits(pager.count)}</li>"
    return (
        f'<nav class="pager" aria-label="{label}"><ul>{link(0, "first")}{link(here - 1, "previous", "prev")}{said}'
        f"{link(here + 1, 'next', 'next')}{link(last, 'last')}</ul></nav>"
    )


def address(path: str, **query: str) -> str:
    """A path with its query, of ASCII alone, and not yet escaped for HTML."""
    return f"{path}?{urlencode(query)}" if query else path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: the names of its columns (text), and rows of HTML."""
    names = "".join(f'<th scope="col">{esc(each)}</th>' for each in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="facts"><tbody><tr>{names}</tr>{body}</tbody></table>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A table of two columns: what, in words, and HTML."""
    body = "".join(f'<tr><th scope="row">{esc(what)}</th><td>{value}</td></tr>' for what, value in rows)
    return f'<table class="facts"><tbody>{body}</tbody></table>'


def note(lines: Sequence[str]) -> str:
    """Sentences (text) that a person should not miss; nothing where there are none."""
    said = "".join(f"<p>{esc(line, 900)}</p>" for line in lines)
    return f'<div class="note">{said}</div>' if lines else ""
