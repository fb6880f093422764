"""The page as a browser would read it: whole, escaped, asking for nothing, and never too large."""

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from plada.common.text import visible
from plada.reports.command_line import command_line
from plada.reports.findings import ClassFacts, Confusion, Picture
from plada.reports.page import LIMIT, fit_page, render_page
from plada.reports.remarks import thin_classes
from plada.reports.text import data_block, esc, shortened
from tests.reports.findings import NASTY, PIXEL, findings, pictures

VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Elements with their attributes, texts by element, and whatever is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.faults: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"{tag} stays open" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.faults.append(f"{tag} has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} is closed out of turn")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        """What the script is given."""
        found: dict[str, Any] = json.loads(next(text for text in self.texts["script"] if text.startswith("{")))
        return found


def read(**changed: Any) -> Reader:
    return Reader(render_page(findings(**changed)).decode())


def test_it_is_well_formed_and_asks_for_nothing() -> None:
    found = read()
    assert not found.faults
    for tag, attributes in found.elements:
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, tag
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), (tag, attributes)
    assert not {"iframe", "object", "embed", "base", "form", "video", "audio"} & {tag for tag, _ in found.elements}
    assert not re.search(r"url\(|@import|https?:", "".join(found.texts["style"]))
    assert not re.search(r"https?:|fetch\(|XMLHttp|innerHTML|eval\(|document\.write", "".join(found.texts["script"]))


def test_style_and_script_are_allowed_by_their_hashes_alone() -> None:
    found = read()
    policy = next(m["content"] for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind, text in (("style", found.texts["style"][0]), ("script", found.texts["script"][-1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in policy


@pytest.mark.parametrize("nasty", NASTY)
def test_names_and_keys_are_data(nasty: str) -> None:
    """Everywhere a name can stand, and the elements of the page stay those of a harmless one."""

    def named(text: str) -> Reader:
        classes = tuple(
            ClassFacts(name=f"{text}{end}", before=3, after=2, scores=None, pictures=pictures((f"{text}/a", text)))
            for end in ("", "2")
        )
        confusion = Confusion(names=(text, "b"), counts=((1, 2), (3, 4)), images=10, pairs=((text, "b", 2),))
        broken = Picture(position=9, key=text, rank=2, score=None, url="", problem=text)
        classes = (*classes, ClassFacts(name="c", before=None, after=1, pictures=(broken,)))
        return read(
            classes=classes, confusion=confusion, title=text, target=text, rule=text, remarks=(text,), unknown=(text,),
            identity=((text, text),), commands=((text, text),), sections={text: 900}, coders={text: 1}, paper={text: 1},
            coder=text, excluded=(text,), relabelled=((text, text),), bits=((text, 1.0, 1.0),),
        )  # fmt: skip

    found, harmless = named(nasty), named("harmless")
    assert not found.faults
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in harmless.elements]
    assert [set(attributes) for _, attributes in found.elements] == [
        set(attributes) for _, attributes in harmless.elements
    ]
    assert found.data["keys"][:2] == [f"{nasty}/a", nasty]
    assert found.data["classes"] == [nasty, f"{nasty}2", "c"]
    assert (found.data["excluded"], found.data["relabelled"]) == ([nasty], [[nasty, nasty]])
    assert visible(nasty) in "".join(found.texts["bdi"])
    raw = render_page(findings(title=nasty)).decode()
    assert not re.search("[\u202e\u2028\r]", raw)


def test_text_that_has_no_look_is_shown() -> None:
    assert visible("a\nb\r\u202e\u2028\x7f\0") == "a\\nb\\r\\u202e\\u2028\\x7f\\u0000"
    assert visible("été 日本 👩‍🔬") == "été 日本 👩‍🔬"
    assert esc("<&\">'") == "&lt;&amp;&quot;&gt;&#x27;"
    assert shortened("a" * 100, 11) == "aaaaa…aaaaa"
    assert "</" not in data_block(["</script><!--"])
    assert json.loads(data_block(["</script><!--&"])) == ["</script><!--&"]


def test_pictures_have_alternatives_and_order() -> None:
    found = read()
    images = found.all("img")
    assert [image["alt"] for image in images] == ["cat/1", "cat/2", "cat/3", "dog/1", "dog/2", "dog/3"]
    buttons = [b for b in found.all("button") if "data-i" in b]
    assert [b["data-i"] for b in buttons] == list("012345")
    assert {b["aria-pressed"] for b in buttons} == {"false"}
    assert found.data["labels"] == [0, 0, 0, 1, 1, 1]
    assert "in the order in which the rule chose them" in render_page(findings()).decode()
    assert "no score is known" in render_page(findings(ranked=False)).decode()


def test_headings_go_down_one_step_at_a_time_and_ids_are_single() -> None:
    found = read()
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in found.all("a"):
        assert (attributes["href"] or "")[1:] in ids
    for _, attributes in found.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    assert all("scope" in attributes for attributes in found.all("th"))
    assert found.all("html")[0]["lang"] == "en"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"budget": 1000}, "fits the budget of 1 000 (90.0%)"),
        ({"budget": 800}, "100 over the budget of 800"),
        ({"budget": None}, "budget not known"),
        ({"images": None}, "An unknown number of images"),
        ({"unknown": ("Pictures: the reference is not here",)}, "Not in this report"),
    ],
)
def test_what_it_is_for_and_whether_it_fits(changed: dict[str, Any], words: str) -> None:
    assert words in render_page(findings(**changed)).decode().replace("&nbsp;", " ")


def test_numbers_are_those_of_the_findings() -> None:
    text = render_page(findings()).decode().replace("&nbsp;", " ")
    for words in (
        "80.0% to 95.0%", "not known", "Forecast at other budgets", "blocks (sent)", "paper: index-zstd", "1 100",
        "14.4 s", "9.6 kbit/s", "Mind the dog.", "plada report pets.plada", "95.6%", "7.50", "Confused most often",
    ):  # fmt: skip
        assert words in text, words


def test_a_page_of_little_has_no_empty_sections() -> None:
    bare = tuple(ClassFacts(name=str(number), before=None, after=None) for number in range(3))
    found = read(
        classes=bare, images=None, accuracies=(), points=(), confusion=None, histogram=None, coder=None, coders={},
        paper={}, bits=(), remarks=(), ranked=False, rule=None, target=None,
    )  # fmt: skip
    assert not found.faults
    assert [a["id"] for tag, a in found.elements if tag == "h2"] == ["classes", "bytes", "air", "identity"]
    assert not found.all("img")
    assert found.data["classes"] == []


def test_ten_thousand_classes() -> None:
    shot = Picture(
        position=1, key="n01443537/n01443537_12", rank=0, score=0.5, url="data:image/webp;base64," + "A" * 1700
    )
    classes = tuple(
        ClassFacts(name=f"class <{number}>", before=1400, after=14, pictures=(shot,) if number % 7 == 0 else ())
        for number in range(10_000)
    )
    found, text = fit_page(findings(classes))
    assert len(text) <= LIMIT
    assert found.pictures == 1429  # all that there were
    reader = Reader(text.decode())
    assert not reader.faults
    assert len(reader.data["classes"]) == 10_000
    assert text.count(b'<tr><th scope="row"><bdi>class') == 10_000


def test_what_is_too_large_has_fewer_pictures_and_shorter_lists() -> None:
    shot = Picture(
        position=1, key="k" * 2000, rank=0, score=0.5, url="data:image/webp;base64," + "A" * 9000, width=72, height=72
    )
    long = [f"{number}{'&' * 240}" for number in range(20_000)]
    classes = tuple(
        ClassFacts(name=name, before=1, after=9, pictures=(shot,) * (number < 900)) for number, name in enumerate(long)
    )
    found, text = fit_page(findings(classes))
    assert len(text) <= LIMIT
    assert 50 < found.pictures < 900
    reader = Reader(text.decode())
    assert not reader.faults
    assert "more classes, which would make this file too large" in text.decode()
    assert len(reader.data["classes"]) == found.pictures  # only those that have a picture can be given
    assert reader.data["labels"] == list(range(found.pictures))


def test_many_classes_of_a_model_are_a_picture() -> None:
    big = Confusion(names=("a",) * 31, counts=(), images=99, pairs=(), url=PIXEL)
    found = read(confusion=big)
    assert [image["class"] for image in found.all("img") if "class" in image] == ["small"] * 6 + ["matrix-picture"]
    assert found.all("table")


def test_the_same_findings_give_the_same_bytes() -> None:
    assert render_page(findings()) == render_page(findings())


def test_commands_are_quoted() -> None:
    options = {
        "target": "my food", "force": True, "exhaustive": False, "recipe": {"mirror": False, "epochs": 3},
        "teacher": ["linear", "zeroshot"], "rate": ["500bps", 9600], "model_args": {"pad": "same"}, "drop_leaks": True,
    }  # fmt: skip
    assert command_line("select", ["a'b"], options) == (
        """plada select 'a'"'"'b' --target 'my food' --force --recipe mirror=false --recipe epochs=3 """
        "--teacher linear,zeroshot --rate 500bps --rate 9600 --model-arg pad=same --drop-leaks"
    )


def test_classes_with_few_images_are_marked() -> None:
    few = ClassFacts(name="rare", before=9, after=2, pictures=pictures(("rare/1", "rare/2")), few=True)
    many = ClassFacts(name="common", before=900, after=90, pictures=pictures(("common/1",)))
    page = render_page(findings((few, many))).decode()
    assert page.count("few images") == 2  # in its section and in the table
    assert "rare</bdi> <small>2 images</small> <span" in page
    assert thin_classes((few, many)) == (
        "Few images, under 9, are labelled rare (2): students learn them less well than others.",
    )
    assert thin_classes((many,)) == ()


def test_names_of_synsets_stand_above_keys() -> None:
    picture = replace(pictures(("n01443537/n01443537_10",))[0], name="gold<fish")
    page = render_page(findings((ClassFacts(name="fish", before=9, after=1, pictures=(picture,)),))).decode()
    assert '<span class="what"><bdi>gold&lt;fish</bdi></span>' in page
    assert "<bdi>n01443537/n01443537_10</bdi>" in page
