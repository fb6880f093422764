"""Findings made by hand, for tests of the page."""

from typing import Any

from plada.reports.findings import BINS, Accuracy, ClassFacts, Confusion, Findings, Histogram, Picture, score_spread

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
NASTY = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a'b", "line\nbreak", "tab\tand\rreturn", "</title>&amp;",
    "\u202eright to left", "javascript:alert(1)", "\u2028", "été 日本",
)  # fmt: skip


def pictures(keys: tuple[str, ...], *, scored: bool = True) -> tuple[Picture, ...]:
    return tuple(
        Picture(position=at, key=key, rank=at, score=1 - at / 10 if scored else None, url=PIXEL, width=1, height=1)
        for at, key in enumerate(keys)
    )


def findings(classes: tuple[ClassFacts, ...] | None = None, **changed: Any) -> Findings:
    """Of two classes with three pictures each, unless others are given."""
    scores = score_spread([0.9, 0.8, 0.1])
    given = classes or tuple(
        ClassFacts(
            name=name, before=100, after=3, scores=scores, pictures=pictures((f"{name}/1", f"{name}/2", f"{name}/3"))
        )
        for name in ("cat", "dog")
    )
    values: dict[str, Any] = {
        "title": "pets.plada", "target": "pets", "rule": "herd-even", "version": 2, "bytes": 900, "budget": 1000,
        "images": sum(each.after or 0 for each in given), "reference": 1000, "classes": given, "ranked": True,
        "accuracies": (
            Accuracy(who="the teacher", on="its test images", value=0.9, low=0.8, high=0.95),
            Accuracy(who="the model", on="6 test images of pets", value=0.75),
        ),
        "points": ((500, 0.6), (1000, 0.7)),
        "confusion": Confusion(names=("cat", "dog"), counts=((3, 1), (0, 2)), images=6, pairs=(("cat", "dog", 1),)),
        "histogram": Histogram(low=0.1, high=0.9, counts=(2, *[0] * (BINS - 2), 4)),
        "sections": {"header": 40, "labels": 860}, "coder": "blocks", "coders": {"blocks": 860, "gaps-zstd": 990},
        "paper": {"index-zstd": 1100}, "bits": (("positions", 7.5, 7.9), ("labels", 1.0, 1.0)),
        "air": {500: 14.4, 9600: 0.75}, "identity": (("file", "pets.plada"), ("key id of the reference", "ab12")),
        "commands": (("write this report again", "plada report pets.plada"),), "remarks": ("Mind the dog.",), "unknown": (),
    }  # fmt: skip
    return Findings(**{**values, **changed})
