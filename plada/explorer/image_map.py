"""The map: a sample of the reference and what payloads chose, on the two main axes of the sample's embeddings.

Main axes (PCA) need no further package, and the same index gives the same map. Far points are far in the embedding; near ones may
be far on the axes that are left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from plada.common.arrays import F32, I64
from plada.explorer.components import address
from plada.explorer.gallery import Gallery
from plada.explorer.pages import whole_page
from plada.reports.findings import even_ranks, fair_shares
from plada.reports.text import data_block, digits, many, name
from plada.selection.space import main_axes
from plada.sources.synset_names import name_key

SAMPLE, CHOSEN = 3000, 2000  # images of the reference, evenly; of a payload, the same number of each class
_SCALE = 10_000  # of coordinates on the page
_OTHER = -1  # the label of what the payload did not choose


@dataclass(frozen=True, slots=True, eq=False)
class ImageMap:
    """positions int64 [n] (rising), points float32 [n, 2] between 0 and 1, labels int64 [n] by the payload, -1 for none; `share` of
    the variance that the two axes hold."""

    positions: I64
    points: F32
    labels: I64
    share: float


def draw_map(gallery: Gallery, number: int | None) -> ImageMap:
    """The map of an index with the images of payload `number`, or of none. At most SAMPLE + CHOSEN embeddings are read."""
    sample = np.array(even_ranks(len(gallery), SAMPLE), np.int64)
    chosen = np.zeros(0, np.int64)
    if number is not None:
        ranked = gallery.payloads[number]
        counts = [ranked.count(label) for label in range(len(ranked.classes))]
        rows = [
            int(ranked.order[int(ranked.starts[label]) + rank])
            for label, places in enumerate(fair_shares(counts, CHOSEN))
            for rank in even_ranks(counts[label], places)
        ]
        chosen = ranked.payload.positions[np.array(rows, np.int64)].astype(np.int64)
    positions = np.union1d(sample, chosen)
    if gallery.index.readable < len(gallery):  # an image that could not be read has no embedding
        positions = positions[[not gallery.problem(gallery.row(position)) for position in positions.tolist()]]
    vectors = gallery.index.vectors(positions).astype(np.float32)
    of_sample = vectors[np.isin(positions, sample)]
    if len(of_sample) < 3:
        return ImageMap(positions[:0], np.zeros((0, 2), np.float32), positions[:0], 0.0)
    axes, mean = main_axes(of_sample, 2), of_sample.mean(axis=0)
    points = (vectors - mean) @ axes
    share = float(((of_sample - mean) @ axes).var(axis=0).sum() / max(of_sample.var(axis=0).sum(), 1e-30))
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) / max(float((high - low).max()), 1e-12)
    labels = np.full(len(positions), _OTHER, np.int64)
    if number is not None:
        payload = gallery.payloads[number].payload
        at = np.minimum(np.searchsorted(payload.positions, positions), max(len(payload) - 1, 0))
        inside = payload.positions[at] == positions if len(payload) else np.zeros(len(positions), np.bool_)
        labels[inside] = payload.labels[at][inside]
    return ImageMap(positions, points.astype(np.float32), labels, share)


def map_page(gallery: Gallery, number: int | None) -> str:
    """The page of the map with the images of payload `number`, or of none."""
    drawn = gallery.maps.get_or_make(-1 if number is None else number, lambda: draw_map(gallery, number))
    assert isinstance(drawn, ImageMap)
    ranked = gallery.payloads[number] if number is not None else None
    others = [
        f'<li><a href="{address("/map", payload=str(at))}"{" aria-current=page" if at == number else ""}>{name(each.name)}</a></li>'
        for at, each in enumerate(gallery.payloads)
    ]
    which = (
        f'<nav class="pager" aria-label="Payloads on the map"><ul><li>Chosen by</li>{"".join(others)}</ul></nav>'
        if others
        else ""
    )
    chosen = int((drawn.labels != _OTHER).sum())
    lead = (
        f"<p>{digits(len(drawn.positions))} of {many(len(gallery), 'image')}: an even sample"
        + (f", and {digits(chosen)} that {name(ranked.name)} chose, coloured by class" if ranked else "")
        + f". The two axes hold {drawn.share:.0%} of the variance of the embeddings. Draw round some points to list them"
        + (", or choose a class below." if ranked else ".")
        + " The wheel brings a part nearer; a double click shows all again.</p>"
    )
    main = (
        f"<h1>Map</h1>{which}{lead}<noscript><p>The map needs JavaScript.</p></noscript>"
        '<div class="map"><div><canvas id="map" role="img" aria-label="Map of the embeddings"></canvas>'
        '<ul id="legend" aria-label="Classes"></ul></div>'
        '<section aria-labelledby="picked"><h2 id="picked">Chosen on the map</h2><p id="count" role="status">Nothing yet.</p>'
        '<p><button type="button" id="save" disabled>Download the keys</button></p><ul class="shots" id="list"></ul></section></div>'
        f'<script type="application/json" id="points">{data_block(_data(gallery, drawn, ranked.classes if ranked else ()))}</script>'
        f'<script src="/map.js?v={gallery.version}" defer></script>'
    )
    return whole_page(gallery, "Map", main)


def _data(gallery: Gallery, drawn: ImageMap, classes: tuple[str, ...]) -> dict[str, Any]:
    """What the page's script draws."""
    keys = gallery.keys(drawn.positions.tolist())
    used = sorted(set(drawn.labels.tolist()) - {_OTHER})
    place = {label: at for at, label in enumerate(used)}
    places = np.rint(drawn.points * _SCALE).astype(np.int64)
    return {
        "scale": _SCALE,
        "version": gallery.version,
        "positions": drawn.positions.tolist(),
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "labels": [place.get(label, _OTHER) for label in drawn.labels.tolist()],
        "keys": keys,
        "names": [name_key(key, gallery.names) for key in keys] if gallery.names else [],
        "classes": [classes[label] for label in used],
    }
