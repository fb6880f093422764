"""Names of synsets: ImageNet's words.txt and files like it, also bad ones."""

from pathlib import Path

import pytest

from plada.errors import DataError
from plada.sources import synset_names
from plada.sources.synset_names import find_synset_names, name_key, read_synset_names


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_first_name_of_each_synset(tmp_path: Path) -> None:
    path = write(tmp_path / "words.txt", "\ufeffn1\tgoldfish, Carassius auratus\r\n\r\nn2\tété\nn1\tsecond\n")
    assert read_synset_names(path) == {"n1": "goldfish", "n2": "été"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n1 goldfish\n", "line 1: expected a synset, a tab"),
        ("n1\tfish\nn2\t\n", "line 2"),
        ("\tfish\n", "line 1"),
        (b"n1\t\xff\xfe\n", "not UTF-8"),
    ],
)
def test_another_form_is_refused_with_its_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_synset_names(write(tmp_path / "words.txt", text))


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(DataError, match="cannot be read"):
            read_synset_names(path)
    monkeypatch.setattr(synset_names, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="12 bytes; a file of names has at most 10"):
        read_synset_names(write(tmp_path / "words.txt", "n1\tgoldfish\n"))


def test_names_lie_beside_the_images_or_one_folder_above(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    assert find_synset_names(images) == {}
    write(tmp_path / "words.txt", "n1\tabove\n")
    assert find_synset_names(images) == {"n1": "above"}
    write(images / "words.txt", "n1\tbeside\n")
    assert find_synset_names(images) == {"n1": "beside"}
    assert find_synset_names(images, write(tmp_path / "other.txt", "n1\tnamed\n")) == {"n1": "named"}
    assert find_synset_names("s3://bucket/images") == {}
    write(images / "words.txt", "of another kind\n")  # nobody named it
    assert find_synset_names(images) == {"n1": "above"}


def test_the_synset_of_a_key() -> None:
    names = {"n1": "goldfish"}
    assert [name_key(key, names) for key in ("n1/n1_2", "train/n1/7.jpg", "n1_2.JPEG", "n10/n10_1", "", "x" * 9999)] == [
        "goldfish", "goldfish", "goldfish", "", "", "",
    ]  # fmt: skip
    assert name_key("n1/n1_2", {}) == ""
