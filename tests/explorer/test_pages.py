"""What the pages show, and that nothing in them acts, whatever keys and classes are called."""

import html
import importlib.util
import io
import zlib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import numpy as np
import pytest
from PIL import Image

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

import plada
from plada.api.explore import open_gallery
from plada.common.text import visible
from plada.encoders.encoder import Encoder
from plada.explorer import app, components, pages
from plada.explorer.gallery import HITS, THUMB, Gallery, Upload
from plada.explorer.query import Query
from plada.retrieval.index import Index
from tests.conftest import picture
from tests.explorer.conftest import CLASSES, KEYS, Answer, Client, nasty_payload, remade, serving

TAGS = {
    "html", "head", "meta", "link", "script", "title", "body", "a", "header", "nav", "div", "form", "label", "input", "button",
    "p", "code", "output", "main", "h1", "h2", "small", "ul", "li", "b", "span", "img", "bdi", "footer", "section", "table",
    "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "rel", "href", "src", "defer", "class", "id", "tabindex", "aria-label", "action",
    "method", "enctype", "role", "for", "type", "accept", "required", "value", "maxlength", "aria-describedby",
    "autocomplete", "title", "alt", "loading", "decoding", "aria-hidden", "aria-labelledby", "width", "height", "scope",
}  # fmt: skip


class Read(HTMLParser):
    """Elements with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str, name: str) -> list[str]:
        return [given[name] for each, given in self.elements if each == tag and name in given]

    def images(self) -> list[int]:
        """Positions of the pictures of a grid, in order."""
        return [
            int(s.removeprefix("/thumb/").partition("?")[0]) for s in self.of("img", "src") if s.startswith("/thumb/")
        ]


def read(answer: Answer, status: int = 200) -> Read:
    """A page, after checking that it is made of nothing but what its makers wrote."""
    assert answer.status == status, answer.text
    seen = Read(answer.text)
    assert {tag for tag, _ in seen.elements} <= TAGS
    assert {name for _, given in seen.elements for name in given} <= ATTRIBUTES
    for name in ("href", "src", "action"):
        for tag in ("a", "img", "form", "link", "script"):
            assert all(place.startswith(("/", "#")) and not place.startswith("//") for place in seen.of(tag, name))
    assert len(seen.of("script", "src")) == len([tag for tag, _ in seen.elements if tag == "script"]) == 1
    assert "alert(1)" not in "".join(given.get("src", "") for _, given in seen.elements)
    assert not [c for c in answer.text if c < " " and c != "\n"]
    assert not {"\u202e", "\u2028", "\x85"} & set(answer.text)
    assert seen.of("h1", "class") == []
    assert [tag for tag, _ in seen.elements].count("h1") == 1
    ids = [given["id"] for _, given in seen.elements if "id" in given]
    assert len(ids) == len(set(ids))
    assert all("alt" in given for tag, given in seen.elements if tag == "img")
    return seen


@pytest.fixture
def keys(nasty: Gallery) -> list[str]:
    return [key for chunk in nasty.index.keys_in_order() for key in chunk.to_pylist()]


def test_the_overview(served: Client, keys: list[str]) -> None:
    seen = read(served.ask("/"))
    assert str(len(keys)) in seen.text
    assert "gradients" in seen.text
    assert "No search by words: gradients have no text tower" in seen.text
    assert "1cannot be read" in seen.text.replace("\n", "")
    shown = [visible(key) for key in keys if key != "plain/broken"]
    assert list(seen.of("img", "alt")) == shown
    assert "plain/broken: not an image" in seen.text
    assert {"/chosen/0", "/chosen/1", "/browse"} <= set(seen.of("a", "href"))
    assert "<i>plain.plada" in seen.text
    assert "<b>bold</b>" in seen.text


def test_a_search_by_position_shows_the_image_and_its_neighbours(
    served: Client, nasty: Gallery, keys: list[str]
) -> None:
    at = keys.index("plain/b")
    moved = served.ask(f"/search?q={at}")
    assert (moved.status, moved.headers["location"]) == (303, f"/image/{at}")
    seen = read(served.ask(f"/image/{at}"))
    wanted = [hit for hit in nasty.index.search(f"position:{at}", len(keys))[0] if hit.position != at]
    assert seen.images() == [hit.position for hit in wanted]
    assert f"{wanted[0].score:.3f}" in seen.text
    assert "80 x 60 pixels" in html.unescape(seen.text).replace("\xa0", " ")
    assert "/search?q=key%3Aplain%2F" in seen.of("a", "href")
    assert {f"/image/{at - 1}", f"/image/{at + 1}"} <= set(seen.of("a", "href"))
    for typed in (len(keys), "position:x", "position:-1", "9" * 1500):
        assert "expected a whole number from 0 to" in read(served.ask(f"/search?q={quote_plus(str(typed))}"), 400).text


def test_every_image_says_as_what_it_was_chosen(served: Client, nasty: Gallery, keys: list[str]) -> None:
    for at, key in enumerate(keys):
        seen = read(served.ask(f"/image/{at}"))
        assert visible(key) in seen.text
        placement = nasty.payloads[1].find(at)
        if placement is None:
            assert key == "plain/broken"
            assert seen.text.count("not chosen") == 2
            assert "cannot be read: not an image" in seen.text
            assert "has no embedding" in seen.text
        else:
            assert visible(CLASSES[placement.label]) in seen.text
            assert f"/chosen/1/{placement.label}" in seen.of("a", "href")
            assert f"score {placement.score:.4g}" in seen.text


@pytest.mark.parametrize("key", KEYS)
def test_a_search_by_key(served: Client, keys: list[str], key: str) -> None:
    answer = served.ask(f"/search?q={quote_plus('key:' + key)}")
    if key == "plain/b":  # plain/b2 begins with it, too
        assert read(answer).images() == [keys.index("plain/b"), keys.index("plain/b2")]
    else:
        assert (answer.status, answer.headers["location"]) == (303, f"/image/{keys.index(key)}")


def test_a_search_by_the_beginning_of_a_key(served: Client, keys: list[str]) -> None:
    wanted = [at for at, key in enumerate(keys) if key.startswith("plain/")]
    for typed in ("plain", "plain/", "key:plain/"):
        seen = read(served.ask(f"/search?q={quote_plus(typed)}"))
        assert seen.images() == [at for at in wanted if keys[at] != "plain/broken"]
        assert "5 images" in seen.text.replace("\xa0", " ")
    assert "There is none." in read(served.ask("/search?q=key:nothing")).text
    nothing = read(served.ask("/search?q=<script>nothing"), 400)
    assert "words cannot be searched for: gradients have no text tower" in nothing.text
    assert nothing.of("input", "value") == ["<script>nothing"]
    assert "expected words" in read(served.ask("/search"), 400).text


def test_beginnings_are_ranges(nasty: Gallery, keys: list[str]) -> None:
    for prefix in ("", "p", "plain/b", "plain/b2", "zzz", "\u202e", "été", "<", *keys):
        found = nasty.key_range(prefix)
        assert list(found) == [at for at, key in enumerate(keys) if key.startswith(prefix)]


def test_addresses_of_long_names_stay_whole(nasty: Gallery) -> None:
    """Text is shortened for the eye; an address never is."""
    query = Query("key", "日" * 1900 + '"&', True)
    seen = Read(pages.keys(nasty, query, range(3), 0).replace("\n", " "))
    assert seen.text.count("日") < 1000
    wide = Read(
        components.paged(
            components.Pager(address=components.address("/search", q=query.text), wanted=0, total=99, each=9), ""
        )
    )
    (link, *_) = wide.of("a", "href")
    assert parse_qs(urlsplit(link).query) == {"q": [query.text], "page": ["2"]}


def reading(gallery: Gallery, asked: list[str]) -> Gallery:
    """The same with a text tower: words give the vector of the image at their length."""

    def encode_text(lines: list[str]) -> np.ndarray:
        asked.extend(lines)
        return np.asarray(gallery.index.vectors([len(line) for line in lines]), np.float32)

    assert gallery.encoder is not None
    return remade(gallery, encoder=replace(gallery.encoder, encode_text=encode_text))


def test_a_search_by_words_and_never_by_a_path(nasty: Gallery, nasty_home: Path) -> None:
    asked: list[str] = []
    with serving(reading(nasty, asked)) as client:
        client.enter()
        seen = read(client.ask("/search?q=dog"))
        assert seen.images()[0] == 3
        assert "Nearest to: dog" in seen.text
        assert seen.of("input", "value") == ["dog"]
        assert "No search by words" not in read(client.ask("/")).text
        # plain is the beginning of a key; as words it is one click away.
        other = [
            link for link in read(client.ask("/search?q=plain")).of("a", "href") if link.startswith("/search?q=text")
        ]
        assert read(client.ask(other[0])).images()[0] == 5
        # An image that exists on this machine: its path is words, and the image is not looked at.
        path = str(nasty_home / "secret.png")[-12:]
        assert len(path) == 12
        for typed in (path, f"text:{path}"):
            assert read(client.ask(f"/search?q={quote(typed)}")).images()[0] == 12
        count = len(asked)
        read(client.ask("/search?q=dog&page=1"))
        assert len(asked) == count  # answers are kept
    assert asked == ["dog", "plain", path, path][: len(asked)]


def test_words_that_are_a_file_here(nasty: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(5).save(tmp_path / "dog.png")
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    reading(nasty, asked).near_words("dog.png")
    assert asked == ["dog.png"]


OUTSIDE = (
    "/../secret.txt", "/../../../../etc/passwd", "/thumb/../../secret.txt", "/thumb/..%2f..%2fsecret.txt",
    "/thumb/%2e%2e%2f%2e%2e%2fsecret.png", "/thumb/..%5c..%5csecret.txt", "/picture/%2e%2e/secret.png", "//etc/passwd",
    "/thumb//etc/passwd", "/thumb/%2fetc%2fpasswd", "/thumb/file:///etc/passwd", "/thumb/secret.png", "/thumb/%00", "/thumb/0%00",
    "/thumb/-1", "/thumb/1e3", "/thumb/0x1", "/thumb/%D9%A3", "/thumb/ 1".replace(" ", "%20"), "/thumb/9999999", f"/thumb/{'9' * 5000}",
    "/image/-1", "/image/x", f"/image/{'9' * 5000}", "/like/../../secret.png", "/like/x/picture", "/style.css/../secret.txt",
    "/static/secret.txt", "/chosen/9", "/chosen/-1", "/chosen/0/99", "/chosen/0/../../secret.txt", "/chosen/x/y", "/thumb/", "/thumb",
    "/secret.png", "/pictures/plain/a.png", "/plain/a", "/index.html", "/favicon.ico",
)  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_address_leads_outside_the_reference(served: Client, path: str) -> None:
    answer = served.ask(path)
    assert answer.status == 404, answer.text
    assert b"SECRET" not in answer.body
    assert b"root:" not in answer.body
    read(answer, 404)


@pytest.mark.parametrize(
    "where", ["search?q=", "search?q=key:", "search?q=position:", "browse?page=", "chosen/0?class=", "image/0?page="]
)
def test_no_query_reads_a_file(served: Client, nasty_home: Path, where: str) -> None:
    for path in (nasty_home / "secret.txt", nasty_home / "secret.png", Path("../secret.png")):
        answer = served.ask(f"/{where}{quote_plus(str(path))}")
        assert answer.status in (200, 400)
        assert b"SECRET" not in answer.body
        read(answer, answer.status)


def test_pictures_are_pixels_made_here(served: Client, nasty: Gallery, keys: list[str]) -> None:
    at = keys.index("plain/a")
    with Image.open(io.BytesIO(served.ask(f"/picture/{at}").body)) as shown:
        assert shown.size == (80, 60)
        wanted = np.asarray(nasty.reference.image(at)).astype(int)
        assert np.abs(np.asarray(shown.convert("RGB")).astype(int) - wanted).mean() < 12
    assert served.ask(f"/thumb/{at}").headers["content-type"].startswith("image/")
    assert served.ask(f"/thumb/{at}?v=x").body == served.ask(f"/thumb/{at}").body
    gone = served.ask(f"/thumb/{keys.index('plain/broken')}")
    assert (gone.status, gone.headers["content-type"]) == (404, "image/svg+xml")


def test_large_pictures_become_small_and_stay_within_their_bound(tmp_path: Path, home: Path) -> None:
    (tmp_path / "big").mkdir()
    for number in range(3):
        picture(number, (900, 500)).save(tmp_path / "big" / f"{number}.jpg")
    plada.index(tmp_path / "big", name="big", encoder="gradients", home=home)
    gallery = open_gallery("big", home=home)
    with Image.open(io.BytesIO(gallery.picture(0, THUMB).data)) as shown:
        assert shown.size == (THUMB, 98)
    gallery.pictures.limit = len(gallery.picture(0, THUMB).data) + 10
    for number in (1, 2, 0):
        gallery.picture(number, THUMB)
        assert gallery.pictures.weight <= gallery.pictures.limit
    (tmp_path / "big" / "0.jpg").write_bytes((tmp_path / "big" / "1.jpg").read_bytes())
    gallery.pictures.limit = 0
    with serving(remade(gallery)) as client:
        client.enter()
        assert client.ask("/thumb/0").status == 404  # changed since it was indexed: not shown as what it was
        assert client.ask("/thumb/1").status == 200
        assert read(client.ask("/image/0")).images() != []


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_search_by_an_uploaded_picture(served: Client, nasty: Gallery, keys: list[str]) -> None:
    at = keys.index("plain/c")
    moved = served.upload(png(nasty.reference.image(at)))
    assert moved.status == 303
    seen = read(served.ask(moved.headers["location"]))
    assert seen.images()[0] == at
    assert "1.000" in seen.text
    shown = served.ask(moved.headers["location"] + "/picture")
    assert shown.headers["content-type"].startswith("image/")
    assert served.ask(moved.headers["location"][:-1] + "/picture").status == 404


def test_an_upload_that_is_none(served: Client) -> None:
    assert "no picture was given" in read(served.upload(b""), 400).text
    assert "no picture was given" in read(served.upload(b"x", name="other"), 400).text
    assert "no picture was given" in read(served.upload(b"/etc/passwd", file=False), 400).text
    assert "not an image of a known kind" in read(served.upload(b"<svg onload=alert(1)>"), 400).text
    assert "Too many files" in read(served.upload(png(picture(1)), count=2), 400).text
    assert "no picture was given" in read(served.ask(served.upload_address, "POST", b"image=x"), 400).text
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert (
        "no picture was given"
        in read(served.ask(served.upload_address, "POST", b"image=%2Fetc%2Fpasswd", **form), 400).text
    )
    assert served.ask(served.upload_address, "POST", b"x", Content_Type="multipart/form-data").status == 400


def test_an_upload_that_is_too_large(served: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = b"x" * (app.UPLOAD + 20_000)
    answer = served.upload(sent)
    assert answer.status == 413
    # Whoever does not say how long it is, is stopped on the way.
    chunk = b"80000\r\n" + b"x" * 0x80000 + b"\r\n"
    mark = {"Content_Type": "multipart/form-data; boundary=x", "Transfer_Encoding": "chunked"}
    body = chunk * (len(sent) // 0x80000 + 2) + b"0\r\n\r\n"
    assert stopped(served, body, mark)


def stopped(client: Client, body: bytes, headers: dict[str, str]) -> bool:
    """Whether the server refuses a chunked body that grows too long, by its answer or by hanging up."""
    import socket

    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {**headers, "Cookie": client.cookie}.items()]
    head = "\r\n".join([f"POST {client.upload_address} HTTP/1.1", f"Host: 127.0.0.1:{client.port}", *lines, "", ""])
    with socket.create_connection(("127.0.0.1", client.port), timeout=120) as connection:
        try:
            connection.sendall(head.encode() + body)
        except (BrokenPipeError, ConnectionResetError):
            return True
        return connection.recv(100).split(b" ")[1] in (b"413", b"400")


def test_a_decompression_bomb(served: Client) -> None:
    """400 million pixels in 50 kB: refused by its header, before anything is unpacked."""
    bomb = png(Image.new("1", (8, 8)))
    wide = bomb[:16] + (20_000).to_bytes(4) * 2 + bomb[24:29]
    bomb = wide + zlib.crc32(wide[12:29]).to_bytes(4) + bomb[33:]
    assert len(bomb) < 200
    assert "pixels" in read(served.upload(bomb), 400).text


def test_uploads_do_not_pile_up(served: Client, nasty: Gallery) -> None:
    first = served.upload(png(picture(1))).headers["location"]
    kept = nasty.uploads.get(first.removeprefix("/like/"))
    assert isinstance(kept, Upload)
    for number in range(40):
        nasty.uploads.put(str(number), kept)
    assert len(nasty.uploads) == 32
    assert "not kept any more" in read(served.ask(first), 400).text


def test_without_an_encoder_the_rest_works(nasty: Gallery) -> None:
    with serving(remade(nasty, encoder=None, no_encoder="its weights are gone")) as client:
        client.enter()
        seen = read(client.ask("/"))
        assert "No search by words: its weights are gone" in seen.text
        assert not any(where.startswith("/upload") for where in seen.of("form", "action"))
        assert "its weights are gone" in read(client.upload(png(picture(1))), 400).text
        assert read(client.ask("/image/0")).images() != []


def test_a_payload_class_by_class(served: Client, nasty: Gallery) -> None:
    for number, ranked in enumerate(nasty.payloads):
        seen = read(served.ask(f"/chosen/{number}"))
        wanted = [position for label in range(len(CLASSES)) for position in ranked.best(label, 0, 12)]
        assert seen.images() == wanted
        for name in CLASSES:
            assert visible(name) in seen.text
        assert ("In the order in which the rule chose them" in seen.text) == (ranked.scores is not None)
        assert ("By position" in seen.text) == (ranked.scores is None)
        for label, name in enumerate(CLASSES):
            one = read(served.ask(f"/chosen/{number}/{label}"))
            assert one.images() == ranked.best(label, 0, 999)
            assert visible(name) in one.text
    listed = read(served.ask("/chosen"))
    assert "1 234 bytes" in listed.text.replace("\xa0", " ")


def test_a_mark_names_what_other_payloads_chose(served: Client, nasty: Gallery, keys: list[str]) -> None:
    def marks(path: str) -> int:
        return len([1 for _, given in read(served.ask(path)).elements if given.get("class") == "mark"])

    assert marks("/browse") == 2 * (len(keys) - 1)
    assert marks("/chosen/0") == len(keys) - 1  # the other payload alone


def test_without_payloads(nasty: Gallery) -> None:
    with serving(remade(nasty, payloads=())) as client:
        client.enter()
        assert "None was named" in read(client.ask("/chosen")).text
        assert "chosen" not in read(client.ask("/image/0")).text.replace("No file chosen", "")
        assert client.ask("/chosen/0").status == 404


def test_ten_thousand_classes(nasty: Gallery, nasty_home: Path) -> None:
    from plada.explorer.payloads import rank_payload

    payload = replace(nasty_payload(nasty_home), classes=tuple(f"class <{at}>" for at in range(10_000)))
    with serving(remade(nasty, payloads=(rank_payload(payload, "many.plada"),))) as client:
        client.enter()
        answer = client.ask("/chosen/0")
        assert len(answer.body) < 60_000
        first = read(answer)
        assert "page 1 of 500" in first.text.replace("\xa0", " ")
        assert "class <19>" in first.text
        assert "class <20>" not in first.text
        assert "/chosen/0?page=500" in first.of("a", "href")
        last = read(client.ask("/chosen/0?page=500"))
        assert "class <9999>" in last.text
        assert read(client.ask("/chosen/0?page=9999999")).text == last.text
        some = read(client.ask("/chosen/0?class=%3C77"))
        assert "page 1 of 6" in some.text.replace("\xa0", " ")  # 77, 770 to 779, 7700 to 7799
        assert "/chosen/0?class=%3C77&page=2" in some.of("a", "href")
        assert "No class has that" in read(client.ask("/chosen/0?class=%22%3E%3Cscript%3E")).text


@pytest.fixture(scope="module")
def glyph_client(glyph_home: Path) -> Iterator[Client]:
    with serving(open_gallery("glyphs", home=glyph_home)) as client:
        client.enter()
        yield client


def test_pages_of_all_images(glyph_client: Client) -> None:
    seen: list[int] = []
    for page in range(1, 26):
        shown = read(glyph_client.ask(f"/browse?page={page}"))
        assert f"page {page} of 25" in shown.text.replace("\xa0", " ")
        seen += shown.images()
    assert seen == list(range(1500))
    last = read(glyph_client.ask("/browse?page=26"))
    assert last.images() == list(range(1440, 1500))
    for odd in ("0", "-1", "x", "", "٣", "9" * 5000):
        assert read(glyph_client.ask(f"/browse?page={quote(odd)}")).images()[0] == 0
    links = set(last.of("a", "href"))
    assert {"/browse?page=1", "/browse?page=24"} <= links
    assert "/browse?page=26" not in links


def test_pages_of_neighbours(glyph_client: Client, glyphs: Index) -> None:
    wanted = [hit.position for hit in glyphs.search("position:7", HITS + 1)[0] if hit.position != 7][:HITS]
    found = []
    for page in range(1, 11):
        found += read(glyph_client.ask(f"/image/7?page={page}")).images()
    assert found == wanted
    assert len(wanted) == HITS
    assert "/browse?page=1" in read(glyph_client.ask("/image/7")).of("a", "href")


def test_drawn_characters_are_shown_with_sharp_pixels(glyph_client: Client) -> None:
    small = [given for tag, given in read(glyph_client.ask("/browse")).elements if tag == "img"]
    assert {given.get("class") for given in small} == {"small"}


def test_an_approximate_index_says_so(tmp_path: Path) -> None:
    plada.index("glyphs:count=400", name="own", home=tmp_path)
    plada.make_ann("own", home=tmp_path)
    gallery = open_gallery("own", home=tmp_path)
    assert gallery.approximate
    with serving(gallery) as client:
        client.enter()
        seen = read(client.ask("/image/5"))
        assert "The approximate index may miss one" in seen.text
        assert "/image/5?exact=1" in seen.of("a", "href")
        exact = read(client.ask("/image/5?exact=1"))
        assert "Every image was compared" in exact.text
        wanted = [hit.position for hit in gallery.index.search("position:5", 400)[0] if hit.position != 5]
        assert exact.images() == wanted[:60]
        assert "/image/5?exact=1&page=2" in exact.of("a", "href")
    (tmp_path / "indexes" / "own" / "ann" / "index.faiss").write_bytes(b"")
    damaged = open_gallery("own", home=tmp_path)
    assert not damaged.approximate
    assert "damaged" in damaged.notes[0]


def test_an_encoder_that_cannot_be_loaded(glyph_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plada.errors import RequestError

    def gone(*_: object, **__: object) -> Encoder:
        raise RequestError("w.safetensors is gone")

    monkeypatch.setattr(Index, "encoder", gone)
    gallery = open_gallery("glyphs", home=glyph_home)
    assert gallery.no_words == "the encoder cannot be loaded (w.safetensors is gone)"
    assert len(gallery.near_position(3)) == HITS
    with pytest.raises(RequestError, match="is gone"):
        open_gallery("glyphs", home=glyph_home, weights="w.safetensors")
