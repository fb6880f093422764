"""The report as one HTML file, written from findings. The file loads nothing from elsewhere.

Style and script are inlined, and allowed by their hashes alone (a Content-Security-Policy that names no source but data:
URLs of pictures): whatever a class or key is called, it cannot run or fetch anything.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files

from plada.common.units import format_rate, format_seconds, format_size
from plada.reports import charts
from plada.reports.findings import Accuracy, ClassFacts, Confusion, Findings, Picture, Spread, thin
from plada.reports.text import data_block, digits, esc, many, name

LIMIT = 5_000_000  # bytes of a page
_FIRST = 24  # pictures of a class that are shown at once; the others are behind a click
_NAMES = 600_000  # bytes of class names that a picture can be given
_ROWS = 1_300_000  # bytes of the table of classes
_BARS = 500  # classes up to which each has bars
_BOXES = 60  # classes up to which each has a box of its scores
_SHORT = 40  # pixels below which a thumbnail is shown enlarged, with its pixels sharp


def fit_page(findings: Findings, limit: int = LIMIT) -> tuple[Findings, bytes]:
    """The page as UTF-8, of at most `limit` bytes, and what it shows: fewer pictures where all would be too many."""
    text = render_page(findings)
    while len(text) > limit and (shown := sum(len(each.pictures) for each in findings.classes)):
        bare = len(render_page(thin(findings, 0)))
        share = (limit - bare) / max(len(text) - bare, 1)
        findings = thin(findings, max(0, min(int(shown * share * 0.98), shown - 1)))
        text = render_page(findings)
    return findings, text


def render_page(findings: Findings) -> bytes:
    """The whole page, UTF-8."""
    style, script = (files("plada.reports").joinpath(file).read_text("utf-8") for file in ("report.css", "report.js"))
    sections = [
        (anchor, title, body)
        for anchor, title, body in (
            ("accuracy", "How well it teaches", _accuracy(findings)),
            ("images", "The images", _images(findings)),
            ("classes", "Classes before and after", _classes(findings)),
            ("scores", "Scores", _scores(findings)),
            ("confusion", "What is taken for what", _confusion(findings.confusion)),
            ("bytes", "Where every byte goes", _bytes(findings)),
            ("air", "Time on air", _air(findings)),
            ("identity", "Identities and commands", _identity(findings)),
        )
        if body
    ]
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    toc = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{title}</h2>{text}</section>\n'
        for anchor, title, text in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{esc(findings.title)}: plada report</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">To the report</a>
<header>
<h1>{name(findings.title)}</h1>
{_head(findings)}
</header>
<nav aria-label="Sections"><ul>{toc}</ul></nav>
<main id="main" tabindex="-1">
{_notes(findings)}
{body}</main>
<footer><p>Written by plada. This file asks for nothing from the network.</p></footer>
<script type="application/json" id="data">{_data(findings)}</script>
<script>{script}</script>
</body>
</html>
""".encode()


_FEW = ' <span class="few">few images</span>'
_BAR = """<div id="corrections" role="region" aria-label="Corrections" hidden>
<fieldset><legend>A click</legend>
<label><input type="radio" name="act" value="reject" id="act-reject" checked> rejects it</label>
<label><input type="radio" name="act" value="relabel" id="act-relabel"> calls it</label>
<select id="class" aria-label="the right class"></select></fieldset>
<output id="count"></output>
<button type="button" id="get-exclude" disabled>Download exclude.txt</button>
<button type="button" id="get-relabel" disabled>Download relabel.csv</button>
<button type="button" id="clear" disabled>Clear</button>
</div>"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _head(findings: Findings) -> str:
    for_what = f" for the target {name(findings.target)}" if findings.target else ""
    images = "An unknown number of" if findings.images is None else digits(findings.images)
    lead = (
        f"{images} images of a reference of {digits(findings.reference)}, labelled with {many(len(findings.classes), 'class')}"
        f"{for_what}{f', chosen by rule {name(findings.rule)}' if findings.rule else ''}. Any client with the reference can train on them."
    )
    cards = [_budget_card(findings)]
    if findings.images:
        cards.append(_card(digits(findings.images), f"images, {8 * findings.bytes / findings.images:.1f} bits each"))
    cards.append(_card(digits(len(findings.classes)), "classes"))
    for accuracy in _first_of_each(findings.accuracies):
        interval = f" ({_interval(accuracy)})" if _interval(accuracy) else ""
        cards.append(_card(f"{accuracy.value:.1%}", f"{accuracy.who}{interval}"))
    return f'<p>{lead}</p>\n<ul class="cards">{"".join(cards)}</ul>'


def _budget_card(findings: Findings) -> str:
    size = digits(findings.bytes)
    if findings.budget is None:
        return _card(f"{size} bytes", "budget not known")
    budget = digits(findings.budget)
    if findings.bytes <= findings.budget:
        return _card(f"{size} bytes", f"fits the budget of {budget} ({findings.bytes / findings.budget:.1%})", "good")
    return _card(f"{size} bytes", f"{digits(findings.bytes - findings.budget)} over the budget of {budget}", "bad")


def _first_of_each(accuracies: Sequence[Accuracy]) -> list[Accuracy]:
    """One accuracy of each model: where a teacher was tested on test images, that one comes first."""
    first: dict[str, Accuracy] = {}
    for accuracy in accuracies:
        first.setdefault(accuracy.who, accuracy)
    return list(first.values())


def _card(figure: str, words: str, kind: str = "") -> str:
    return f"<li{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}><b>{figure}</b><span>{words}</span></li>"


def _notes(findings: Findings) -> str:
    parts = []
    for title, lines in (("Before you send it", findings.remarks), ("Not in this report", findings.unknown)):
        if lines:
            items = "".join(f"<li>{esc(line, 600)}</li>" for line in lines)
            parts.append(f'<div class="note"><strong>{title}</strong><ul>{items}</ul></div>')
    return "".join(parts)


def _accuracy(findings: Findings) -> str:
    if not findings.accuracies:
        return ""
    rows = (
        f'<tr><th scope="row">{esc(accuracy.who)}</th><td>{esc(accuracy.on, 200)}</td><td class="n">{accuracy.value:.1%}</td>'
        f'<td class="n">{_interval(accuracy) or "not known"}</td><td>{charts.interval(accuracy.value, accuracy.low, accuracy.high)}</td></tr>'
        for accuracy in findings.accuracies
    )
    text = _table(("Who", "On", "#Accuracy", "#95 % interval", "0 to 100 %"), rows)
    if len(findings.points) > 1:
        more = (
            f'<tr><td class="n">{digits(size)}</td><td class="n">{value:.1%}</td></tr>'
            for size, value in findings.points
        )
        text += "<h3>Forecast at other budgets</h3>" + _table(("#Bytes", "#Accuracy"), more)
    return text


def _interval(accuracy: Accuracy) -> str:
    return (
        f"{accuracy.low:.1%} to {accuracy.high:.1%}" if accuracy.low is not None and accuracy.high is not None else ""
    )


def _images(findings: Findings) -> str:
    if not any(each.pictures for each in findings.classes):
        return ""
    order = (
        "in the order in which the rule chose them"
        if findings.ranked
        else "by position: without the selection's table no score is known"
    )
    text = (
        f"<p>{digits(findings.pictures)} of {digits(findings.images or 0)} images, {order}. Where a class has more than are shown, "
        "they are taken evenly from its first to its last. Each is labelled with the class it stands under"
        f"{', and has its score above its key' if findings.ranked else ''}.</p>"
        "<p>Is one wrong? A click rejects it, or gives it the class named at the foot of the window; arrow keys go from picture "
        'to picture. Download what you found, and <a href="#identity">choose again</a> with '
        "<code>--exclude exclude.txt</code>, <code>--relabel relabel.csv</code>.</p>"
        "<noscript><p>Corrections need JavaScript; all else is here without it.</p></noscript>"
    )
    number = 0
    for label, each in enumerate(findings.classes):
        if each.pictures:
            text += _class_section(label, number, each)
            number += len(each.pictures)
    return text + _BAR


def _class_section(label: int, number: int, each: ClassFacts) -> str:
    shown = f", {len(each.pictures)} shown" if len(each.pictures) < (each.after or 0) else ""
    title = f"{name(each.name)} <small>{many(each.after or 0, 'image')}{shown}</small>{_FEW if each.few else ''}"
    items = [_shot(number + place, picture) for place, picture in enumerate(each.pictures)]
    first = f'<ul class="shots">{"".join(items[:_FIRST])}</ul>'
    rest = items[_FIRST:]
    more = f'<details><summary>{len(rest)} more of {name(each.name)}</summary><ul class="shots">{"".join(rest)}</ul></details>'
    return f'<section class="class" aria-labelledby="c{label}"><h3 id="c{label}">{title}</h3>{first}{more if rest else ""}</section>\n'


def _shot(number: int, picture: Picture) -> str:
    key = esc(picture.key)
    if picture.url:
        small = ' class="small"' if max(picture.width, picture.height) < _SHORT else ""
        inside = f'<img{small} src="{picture.url}" width="{picture.width}" height="{picture.height}" alt="{key}">'
    else:
        inside = f'<span class="gone">{key}: {esc(picture.problem, 60)}</span>'
    called = f'<span class="what">{name(picture.name, 40)}</span>' if picture.name else ""
    score = f'<span class="score">{picture.score:.3g}</span>' if picture.score is not None else ""
    return (
        f'<li><button type="button" data-i="{number}" aria-pressed="false" title="{key}"><span class="frame">{inside}</span>'
        f'{called}{score}<span class="key" aria-hidden="true">{name(picture.key)}</span></button></li>'
    )


def _classes(findings: Findings) -> str:
    was = sum(each.before or 0 for each in findings.classes) or 1
    now = sum(each.after or 0 for each in findings.classes) or 1
    most = max((max((c.before or 0) / was, (c.after or 0) / now) for c in findings.classes), default=0) or 1
    scored = any(each.scores for each in findings.classes)
    bars = len(findings.classes) <= _BARS and findings.images is not None
    head = ("Class", "#In the reference", "#Chosen", *(("Share of each",) if bars else ()),
            *(("#Best score", "#Median", "#Last") if scored else ()))  # fmt: skip
    rows, size = [], 0
    for each in findings.classes:
        few = _FEW if each.few else ""
        row = f'<tr><th scope="row">{name(each.name)}{few}</th>{_number(each.before)}{_number(each.after)}'
        if bars:
            row += f"<td>{charts.two_bars((each.before or 0) / was / most, (each.after or 0) / now / most)}</td>"
        row += (_scores_of(each.scores) if scored else "") + "</tr>"
        size += len(row)
        if size > _ROWS:
            break
        rows.append(row)
    left = len(findings.classes) - len(rows)
    text = (
        "<p>How many images of the reference the teacher calls so, and how many were chosen."
        f"{' Bars are shares of all, grey before and coloured after.' if bars else ''}</p>"
    )
    more = f"<p>And {digits(left)} more classes, which would make this file too large.</p>" if left else ""
    kind = f"stack classes{' bars' if bars else ''}"
    return text + _table(head, rows, tall=len(findings.classes) > 24, label="Classes", kind=kind) + more


def _scores_of(spread: Spread | None) -> str:
    if spread is None:
        return '<td class="n">-</td>' * 3
    return "".join(f'<td class="n">{score:.4g}</td>' for score in (spread.best, spread.median, spread.last))


def _scores(findings: Findings) -> str:
    if findings.histogram is None:
        return ""
    rule = f" of rule {name(findings.rule)}" if findings.rule else ""
    text = f"<p>Scores{rule}; higher is better. All chosen images:</p>{charts.histogram(findings.histogram)}"
    rows = [(each.name, each.scores) for each in findings.classes if each.scores is not None]
    if 1 < len(rows) <= _BOXES:
        text += f"<p>And class by class, from the last to the best, with quartiles and median:</p>{charts.boxes(rows)}"
    return text


def _confusion(findings: Confusion | None) -> str:
    if findings is None:
        return ""
    text = f"<p>{digits(findings.images)} test images: rows are what they are, columns what the model called them.</p>"
    if findings.counts:
        head = "".join(f'<th scope="col">{name(each, 16)}</th>' for each in findings.names)
        rows = "".join(
            _matrix_row(each, row, at)
            for at, (each, row) in enumerate(zip(findings.names, findings.counts, strict=True))
        )
        text += _scrolling(
            f'<table class="matrix"><thead><tr><th scope="col">is</th>{head}</tr></thead><tbody>{rows}</tbody></table>',
            "Confusion matrix",
        )
    if findings.url:
        text += f'<img class="matrix-picture" src="{findings.url}" alt="Confusion matrix: a dark diagonal is right; the pairs below are the worst of the rest">'
    if findings.pairs:
        worst = (
            f'<tr><th scope="row">{name(true)}</th><td>{name(called)}</td><td class="n">{digits(times)}</td></tr>'
            for true, called, times in findings.pairs
        )
        text += "<h3>Confused most often</h3>" + _table(("Is", "Called", "#Times"), worst)
    return text


def _matrix_row(each: str, row: Sequence[int], at: int) -> str:
    total = sum(row) or 1
    cells = ""
    for column, count in enumerate(row):
        kind = "hit" if column == at and count else "miss" if count else ""
        kind += " many" if count / total >= 0.1 and column != at else ""
        cells += f"<td{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{count or ''}</td>"
    return f'<tr><th scope="row">{name(each, 24)}</th>{cells}</tr>'


def _bytes(findings: Findings) -> str:
    rows = (
        f'<tr><th scope="row">{esc(part)}</th><td class="n">{digits(size)}</td><td class="n">{size / findings.bytes:.1%}</td>'
        f"<td>{charts.bar(size / findings.bytes)}</td></tr>"
        for part, size in findings.sections.items()
    )
    text = f"<p>{digits(findings.bytes)} bytes in all.</p>" + _table(("Part", "#Bytes", "#Share", ""), rows)
    if findings.bits:
        bits = (
            f'<tr><th scope="row">{esc(what)}</th><td class="n">{bits:.2f}</td><td class="n">{free:.2f}</td></tr>'
            for what, bits, free in findings.bits
        )
        text += "<h3>Bits an image</h3>" + _table(("Of", "#Sent", "#If every choice were equally likely"), bits)
    coders = [
        (f"{coder}{' (sent)' if coder == findings.coder else ''}", size, coder == findings.coder)
        for coder, size in sorted(findings.coders.items(), key=lambda item: item[1])
    ]
    coders += [
        (f"paper: {form}", size, False) for form, size in sorted(findings.paper.items(), key=lambda item: item[1])
    ]
    if coders:
        most = max(size for _, size, _ in coders)
        more = (
            f'<tr{" class=" + chr(34) + "sent" + chr(34) if sent else ""}><th scope="row">{esc(coder)}</th><td class="n">{digits(size)}</td>'
            f"<td>{charts.bar(size / most, kind='bar' if not coder.startswith('paper') else 'was')}</td></tr>"
            for coder, size, sent in coders
        )
        text += (
            "<h3>The labels under other coders</h3><p>Images and their labels alone. The paper's forms (arXiv 2602.23358) count no header, "
            "names or identity.</p>" + _table(("Coder", "#Bytes", ""), more)
        )
    return text


def _air(findings: Findings) -> str:
    rows = (
        f'<tr><th scope="row">{format_rate(rate)}</th><td class="n">{format_seconds(seconds)}</td></tr>'
        for rate, seconds in findings.air.items()
    )
    return f"<p>{format_size(findings.bytes)}, nothing lost on the way.</p>" + _table(("Rate", "#Time"), rows)


def _identity(findings: Findings) -> str:
    rows = "".join(
        f'<tr><th scope="row">{esc(what)}</th><td>{name(text, 200)}</td></tr>' for what, text in findings.identity
    )
    text = _scrolling(f'<table class="facts"><tbody>{rows}</tbody></table>', "Identities")
    return text + "".join(f"<h3>To {esc(what)}</h3><pre>{esc(line, 4000)}</pre>" for what, line in findings.commands)


def _data(findings: Findings) -> str:
    """Keys and labels of the pictures in their order on the page, and the names that a label can be."""
    shown = [label for label, each in enumerate(findings.classes) for _ in each.pictures]
    keys = [picture.key for each in findings.classes for picture in each.pictures]
    offered = list(range(len(findings.classes)))
    if sum(len(findings.classes[label].name) + 3 for label in offered) > _NAMES:
        offered = sorted(set(shown))
    places = {label: place for place, label in enumerate(offered)}
    names = [findings.classes[label].name for label in offered] if keys else []
    return data_block(
        {"keys": keys, "labels": [places[label] for label in shown], "classes": names,
         "excluded": findings.excluded, "relabelled": findings.relabelled}
    )  # fmt: skip


def _number(count: int | None) -> str:
    return f'<td class="n">{"-" if count is None else digits(count)}</td>'


def _table(head: Sequence[str], rows: Iterable[str], *, tall: bool = False, label: str = "", kind: str = "") -> str:
    """A table; a heading that begins with # is over numbers. `kind` is its class in report.css; without one each cell carries its
    heading, which stands before it where a narrow window has no columns."""
    cells = "".join(
        f'<th scope="col" class="n">{esc(each[1:])}</th>' if each.startswith("#") else f'<th scope="col">{esc(each)}</th>'
        if each else "<td></td>" for each in head
    )  # fmt: skip
    if not kind:
        rows = (_labelled(row, head) for row in rows)
    table = f'<table class="{kind or "stack"}"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return _scrolling(table, label or head[0].lstrip("#"), tall=tall)


def _labelled(row: str, head: Sequence[str]) -> str:
    """A row whose cells carry their headings."""
    first, *cells = row.split("<td")
    labels = head[len(head) - len(cells) :]
    return first + "".join(
        f'<td data-label="{esc(label.lstrip("#"))}"{cell}' for label, cell in zip(labels, cells, strict=True)
    )


def _scrolling(table: str, label: str, *, tall: bool = False) -> str:
    return f'<div class="scroll{" tall" if tall else ""}" role="region" tabindex="0" aria-label="{esc(label)}">{table}</div>'
