"""Queries in every form they may have: the same image gives the same vector, whatever it came as."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plada.errors import RequestError
from plada.retrieval.index import Index
from plada.retrieval.queries import parse_query, position_of_key, query_image, split_queries
from plada.sources.decode import decode


def see_through(mode: str) -> Image.Image:
    """A dark square in the middle of nothing: over black it would be invisible."""
    image = Image.new("RGBA", (24, 24), (0, 0, 0, 0))
    image.paste((10, 10, 40, 255), (6, 6, 18, 18))
    made: Image.Image = image.quantize(8) if mode == "P" else image.convert(mode)
    return made


@pytest.fixture
def reads(glyphs: Index) -> Index:
    """The index with a text tower that no built-in encoder has: words are seeds of vectors."""
    encoder = glyphs.encoder()

    def encode_text(lines: list[str]) -> np.ndarray:
        vectors = np.stack([np.random.default_rng(len(line)).normal(size=256) for line in lines])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    opened = Index(glyphs.folder, glyphs.home, glyphs.info)
    opened._encoder.append(replace(encoder, encode_text=encode_text))
    return opened


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGBa", "PA", "La"])
def test_transparency_is_laid_over_white_as_in_a_stored_image(mode: str, tmp_path: Path, glyphs: Index) -> None:
    image = see_through(mode) if mode not in ("RGBa", "La", "PA") else see_through(mode.upper().replace("PA", "P")).convert(mode)  # fmt: skip
    seen = np.asarray(query_image(parse_query(image)))
    assert (seen[0, 0] == 255).all() and seen[12, 12].max() < 60
    see_through("RGBA").save(tmp_path / "x.png")
    if mode == "RGBA":
        assert np.array_equal(seen, np.asarray(decode((tmp_path / "x.png").read_bytes())))
        forms = [image, np.asarray(image), str(tmp_path / "x.png"), tmp_path / "x.png"]
        vectors = glyphs.embed_queries(forms)
        assert (vectors == vectors[0]).all()


def test_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    image.putpixel((4, 4), (200, 0, 0))
    image.save(tmp_path / "x.png", transparency=(1, 2, 3))
    with Image.open(tmp_path / "x.png") as stored:
        seen = np.asarray(query_image(parse_query(stored)))
    assert seen[0, 0].tolist() == [255, 255, 255] and seen[4, 4].tolist() == [200, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "I;16", "HSV"])
def test_other_modes_are_seen_as_rgb(mode: str) -> None:
    grey = Image.new("L", (9, 7), 128)
    image = grey.convert("RGB").convert(mode) if mode not in ("I;16",) else Image.new("I;16", (9, 7), 128 << 8)
    seen = query_image(parse_query(image))
    assert (seen.mode, seen.size) == ("RGB", (9, 7))
    assert mode == "1" or abs(int(np.asarray(seen).mean()) - 128) < 3


def test_arrays_of_pixels(glyphs: Index) -> None:
    image = np.asarray(glyphs.images([9])[0])
    grey = np.ascontiguousarray(image[:, :, 0])
    forms: list[Any] = [
        image,
        np.stack([image, image]),
        [image],
        grey,
        np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
    ]
    assert [len(split_queries(form)) for form in forms] == [1, 2, 1, 1, 1]
    for form in forms:
        assert {row[0].position for row in glyphs.search(form, 1)} == {9}


def test_vectors_of_any_kind_of_number(glyphs: Index) -> None:
    import torch

    vector = glyphs.vectors([9])[0]
    for form in (
        vector,
        vector.astype(np.float64) * 1e30,
        vector.astype(np.float32) * 1e-30,
        torch.from_numpy(vector.copy()),
    ):
        assert glyphs.search(form, 1)[0][0].position == 9
    assert len(glyphs.search(torch.from_numpy(glyphs.vectors([9, 10, 11]).astype(np.float32)), 1)) == 3
    assert len(glyphs.search([vector, "position:3"], 1)) == 2


def test_words(reads: Index) -> None:
    hits = reads.search(["a digit", "text:a digit", "text: a digit ", "another thing"], 3)
    assert hits[0] == hits[1] == hits[2] != hits[3]
    assert reads.search("words " * 2000, 1)  # longer than a file's name may be
    with pytest.raises(RequestError, match=r"no such image file\. To search for these words write text:cat\.jpg"):
        reads.search("cat.jpg", 1)
    assert reads.search("text:cat.jpg", 1)


def test_a_file_comes_before_words_and_words_before_nothing(
    reads: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reads.images([5])[0].save(tmp_path / "a digit", format="PNG")
    assert reads.search("a digit", 1)[0][0].position == 5
    assert reads.search("text:a digit", 1)[0][0].score < 0.9
    for empty in ("", "text:", "text:  "):
        with pytest.raises(RequestError, match="expected an image file, position:NUMBER, key:KEY or words"):
            reads.search(empty, 1)


def test_words_for_an_encoder_that_cannot_read(glyphs: Index) -> None:
    with pytest.raises(RequestError, match=r"query 'a dog': .* encoder gradients has no text tower"):
        glyphs.search("a dog", 1)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.zeros((2, 2, 2, 5), np.uint8), "not an image that can be read"),
        (np.zeros(256, np.uint8), "expected pixels uint8"),
        (np.float32(3), "expected pixels uint8"),
        (np.zeros((0, 5, 3), np.uint8), "it has no pixels: 5x0"),
        (np.array(["a", "b"]), "no text tower"),
        ([0.5, 0.25], "a query of type float"),
        (7, "a query of type int"),
        (None, "a query of type NoneType"),
        ({"a": 1}, "a query of type dict"),
        (Path("no-such-file"), "No such file"),
        (Path(), "directory"),
        (Image.new("F", (4, 4)), "no value is defined as white"),
        (Image.new("I", (4, 4)), "no value is defined as white"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_query(glyphs: Index, query: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        glyphs.search(query, 1)


def test_an_image_by_its_key_or_the_beginning_of_no_other(glyphs: Index) -> None:
    key = glyphs.keys([7])[0]
    assert glyphs.search([f"key:{key}", "position:7"], 3)[0] == glyphs.search("position:7", 3)[0]
    keys = sorted(["a/1", "a/10", "b/2.png", "\u00e9/3"], key=lambda key: key.encode())

    def find(wanted: str) -> int:
        return position_of_key(wanted, lambda positions: [keys[position] for position in positions], len(keys))

    assert [find(text) for text in ("a/1", "a/10", "b", "b/2.png", "\u00e9/3", "\u00e9")] == [0, 1, 2, 2, 3, 3]
    with pytest.raises(RequestError, match=r"several keys begin so, such as a/1 and a/10. Give the whole key of one"):
        find("a/")
    for wanted, near in (
        ("z", "b/2.png, \u00e9/3"),
        ("A", "a/1"),
        ("b/3", "b/2.png, \u00e9/3"),
        ("\uffff", "\u00e9/3"),
    ):
        with pytest.raises(RequestError, match=f"key:{wanted}': no key of the index begins so; near it are {near}"):
            find(wanted)
    for text, words in (("key:", "expected key: and a key"), ("key:no/such.png", "no key of the index begins so")):
        with pytest.raises(RequestError, match=words):
            glyphs.search(text, 1)


def test_a_cut_image_in_memory(glyphs: Index, tmp_path: Path) -> None:
    glyphs.images([5])[0].resize((200, 200)).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:900])
    with Image.open(tmp_path / "x.jpg") as cut, pytest.raises(RequestError, match="not an image that can be read"):
        glyphs.search(cut, 1)


def test_many_queries_are_encoded_together_in_the_order_asked(glyphs: Index) -> None:
    images = glyphs.images(range(150))
    mixed = [image if number % 3 else f"position:{number}" for number, image in enumerate(images)]
    assert [row[0].position for row in glyphs.search(mixed, 1)] == list(range(150))
