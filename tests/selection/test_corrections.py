"""Lists of a person's corrections, as they are written by hand and by a report."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.errors import DataError, RequestError
from plada.labeler.pseudo_labels import PseudoLabels
from plada.selection.corrections import read_keys, read_labels, relabelled, without


def test_a_line_is_a_key_and_a_json_string_stands_for_its_text(tmp_path: Path) -> None:
    path = tmp_path / "no.txt"
    path.write_text(
        '# a remark\n\n a/1 \n"line\\nbreak"\n"# not a remark"\n" spaces "\n"open\n"a" b\n', encoding="utf-8"
    )
    assert read_keys(path) == ["a/1", "line\nbreak", "# not a remark", " spaces ", '"open', '"a" b']
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="one key a line"):
        read_keys(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("first\nsecond\n", encoding="utf-8-sig")
    assert read_keys(tmp_path / "keys.txt") == ["first", "second"]


def test_a_table_holds_whatever_a_key_is(tmp_path: Path) -> None:
    path = tmp_path / "fix.csv"
    path.write_bytes(b'key,label\n"a,""b""\r\nc","d\ne"\nplain,1\n')
    assert [list(part) for part in read_labels(path, ("x", "d\ne"))] == [['a,"b"\r\nc', "plain"], [1, 1]]
    path.write_text("key,label\na,x\na,x\n")
    with pytest.raises(DataError, match="twice"):
        read_labels(path, ("x",))
    path.write_text(f'key,label\n"{"a" * 200_000}",x\n')
    with pytest.raises(RequestError, match="cannot be read as a table"):
        read_labels(path, ("x",))


def labels_of(positions: list[int], classes: list[int]) -> PseudoLabels:
    scores = {"margin": np.linspace(1, 2, len(positions), dtype=np.float32)}
    return PseudoLabels(np.array(positions, np.int64), np.array(classes, np.int64), scores, 3)


def test_labels_are_names_or_numbers_in_csv_and_parquet(tmp_path: Path) -> None:
    names = ("cat", "dog", "7")
    (tmp_path / "a.csv").write_text("label,key\ncat,x\ndog,y\n7,z\n")
    assert [list(part) for part in read_labels(tmp_path / "a.csv", names)] == [["x", "y", "z"], [0, 1, 2]]
    (tmp_path / "a.csv").write_text("label,key\ncat,x\n1,y\n", encoding="utf-8-sig")
    assert [list(part) for part in read_labels(tmp_path / "a.csv", ("cat", "dog"))] == [["x", "y"], [0, 1]]
    pq.write_table(pa.table({"key": ["x", "y"], "label": [2, 0], "score": [0.5, 0.1]}), tmp_path / "a.parquet")
    assert [list(part) for part in read_labels(tmp_path / "a.parquet", names)] == [["x", "y"], [2, 0]]
    (tmp_path / "none.csv").write_text("key,label\n")
    assert [list(part) for part in read_labels(tmp_path / "none.csv", names)] == [[], []]


@pytest.mark.parametrize("label", ["bird", "3", "-1", "", "1.0", "٣", "²", "9" * 5000])
def test_a_label_that_is_no_class_is_named(label: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"key,label\nfine,cat\nodd,{label}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"'odd' has the label .*0 to 2") as caught:
        read_labels(tmp_path / "a.csv", ("cat", "dog", "cow"))
    assert f"'{label}'" in str(caught.value)


# Sorted as folders are, so that no class but '0' and '1' is at the place that its name says.
NUMBERS = tuple(sorted(map(str, range(43))))


def test_a_target_whose_classes_are_numbers_comes_back_as_it_was(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(43)]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"key": keys, "label": pa.array(range(43), pa.int32())}), path)
    assert read_labels(path, NUMBERS)[1].tolist() == list(range(43))
    pq.write_table(pa.table({"key": keys, "label": list(NUMBERS)}), path)
    assert read_labels(path, NUMBERS)[1].tolist() == list(range(43))
    pq.write_table(pa.table({"key": keys, "label": pa.array(NUMBERS).dictionary_encode()}), path)
    assert read_labels(path, NUMBERS)[1].tolist() == list(range(43))
    # A CSV file holds names, unless it is what --table wrote.
    path = tmp_path / "t.csv"
    path.write_text("key,label\n" + "".join(f"{key},{name}\n" for key, name in zip(keys, NUMBERS, strict=True)))
    assert read_labels(path, NUMBERS)[1].tolist() == list(range(43))
    path.write_text("key,label,class_rank\n" + "".join(f"{key},{at},0\n" for at, key in enumerate(keys)))
    assert read_labels(path, NUMBERS)[1].tolist() == list(range(43))


def test_labels_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for column, said in (
        (pa.array(["1", "0"]), "'a' has the label '1'; expected a class .* A column of text holds names"),
        (pa.array([0, 9]), "'b' has the label '9'; expected the number, 0 to 1"),
        (pa.array([0, -1]), "'b' has the label '-1'"),
        (pa.array([0, None], pa.int32()), "row 2 has no label"),
        (pa.array([0.0, 1.0]), "column 'label' is of type double; expected whole numbers"),
    ):
        pq.write_table(pa.table({"key": ["a", "b"], "label": column}), path)
        with pytest.raises(DataError, match=said):
            read_labels(path, ("cat", "dog"))
    (tmp_path / "t.csv").write_text("key,label\na,0\n")
    with pytest.raises(DataError, match="called '7', so a CSV file holds names"):
        read_labels(tmp_path / "t.csv", ("cat", "dog", "7"))
    (tmp_path / "t.csv").write_text("key,label\na,cat\nb\n")
    with pytest.raises(DataError, match="row 2 has no label"):
        read_labels(tmp_path / "t.csv", ("cat", "None"))


@pytest.mark.parametrize(
    ("name", "text", "error", "said"),
    [
        ("a.csv", "name,label\nx,cat\n", DataError, "no column 'key'; expected key and label, found name, label"),
        ("a.csv", "key,class\nx,cat\n", DataError, "no column 'label'"),
        ("a.parquet", "no parquet", RequestError, "cannot be read as a table"),
        ("gone/a.csv", None, RequestError, "cannot be read as a table"),
    ],
)
def test_what_is_no_table_of_corrections(
    name: str, text: str | None, error: type[Exception], said: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=said):
        read_labels(tmp_path / name, ("cat",))


@given(st.sets(st.integers(0, 50), min_size=1), st.dictionaries(st.integers(0, 60), st.integers(0, 2)))
def test_who_is_relabelled_comes_first_and_the_others_stay(known: set[int], given_labels: dict[int, int]) -> None:
    positions = sorted(known)
    labels = labels_of(positions, [0] * len(positions))
    told = np.array(list(given_labels), np.int64)
    after = relabelled(labels, told, np.array(list(given_labels.values()), np.int64))
    for row, position in enumerate(positions):
        if position in given_labels:
            assert after.labels[row] == given_labels[position]
            assert after.scores["margin"][row] == labels.scores["margin"].max()
        else:
            assert after.labels[row] == 0
            assert after.scores["margin"][row] == labels.scores["margin"][row]
    assert np.array_equal(after.positions, labels.positions)


@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 40)))
def test_what_is_left_out_is_gone_and_nothing_else(known: set[int], gone: set[int]) -> None:
    labels = labels_of(sorted(known), [number % 3 for number in range(len(known))])
    if known <= gone:
        with pytest.raises(DataError, match="every image that could be chosen was excluded"):
            without(labels, np.array(sorted(gone), np.int64))
        return
    after = without(labels, np.array(sorted(gone), np.int64))
    assert after.positions.tolist() == sorted(known - gone)
    rows = np.isin(labels.positions, after.positions)
    assert np.array_equal(after.labels, labels.labels[rows])
    assert np.array_equal(after.scores["margin"], labels.scores["margin"][rows])
