"""Teachers of every kind: what they give, how they vote, and what is refused."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plada
from plada.common.progress import silent
from plada.errors import DataError, RequestError, UnknownName
from plada.labeler.custom_teachers import function_teacher, table_teacher
from plada.labeler.embedded_target import embed_target
from plada.labeler.scores import consensus, energy, entropy, normalised_rank
from plada.labeler.teacher import MAJORITY, checked_logits, vote
from plada.labeler.teachers import TeacherSpec, teach
from plada.labeler.zeroshot import TEMPLATES, spoken, zeroshot_teacher
from plada.retrieval.index import Index
from plada.sources.registry import open_target

CLASSES = ("zero", "one", "two")


def test_energy_and_entropy_at_other_temperatures() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32) * 3
    np.testing.assert_allclose(energy(logits, 2.0), 2 * np.log(np.exp(logits / 2).sum(axis=1)), rtol=1e-5)
    odds = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(entropy(logits, 2.0), (odds * np.log(odds)).sum(axis=1), rtol=1e-4, atol=1e-5)


def test_consensus_is_the_worst_rank() -> None:
    first, second = np.array([3.0, 2, 1, 0], np.float32), np.array([0.0, 3, 2, 1], np.float32)
    np.testing.assert_allclose(normalised_rank(first), [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    np.testing.assert_allclose(consensus([first, second]), [-1, -1 / 3, -2 / 3, -1], rtol=1e-6)


def test_a_vote_is_the_mean_of_calibrated_probabilities() -> None:
    sure, unsure = np.array([[4.0, 0]], np.float32), np.array([[0.0, 1]], np.float32)
    found = np.exp(vote([sure, unsure], [1.0, 1.0]))
    by_hand = (np.array([np.e**4, 1]) / (np.e**4 + 1) + np.array([1, np.e]) / (1 + np.e)) / 2
    np.testing.assert_allclose(found[0], by_hand, rtol=1e-5)
    # An overconfident teacher has less to say once it is calibrated.
    assert vote([sure, unsure * 3], [8.0, 1.0]).argmax() == 1


def test_a_majority_goes_by_first_choices_and_the_mean_decides_between_equals() -> None:
    one = np.array([[9.0, 0, 0], [9, 0, 0]], np.float32)
    two, three = np.array([[0, 1.0, 0], [0, 1, 0]], np.float32), np.array([[0, 1.0, 0], [0, 0, 1]], np.float32)
    assert vote([one, two, three], [1.0] * 3).argmax(axis=1).tolist() == [0, 0]
    voted = vote([one, two, three], [1.0] * 3, MAJORITY)
    assert voted.argmax(axis=1).tolist() == [1, 0]
    np.testing.assert_allclose(np.exp(voted).sum(axis=1), 1, rtol=1e-5)
    agreed = vote([two, two, two], [1.0] * 3, MAJORITY)
    assert np.sort(agreed[0])[-1] > np.sort(voted[0])[-1]


def test_each_member_of_a_vote_is_judged_on_what_it_has_not_seen(
    glyphs: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own training images would give a linear teacher 100 % and the coldest temperature there is."""
    module = ModuleType("random_teacher")
    rng = np.random.default_rng(0)
    module.say = lambda images: rng.normal(size=(len(images), 10))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "random_teacher", module)
    reports = {}
    for names in ("linear", "linear,random_teacher:say", "random_teacher:say,linear"):
        target = open_target("digits", glyphs.home)
        embedded = embed_target(glyphs.encoder(), target, report=silent)
        reports[names] = teach(glyphs, target, embedded, TeacherSpec(names=names, force=True)).report
    alone = reports["linear"]
    for names, place in (("linear,random_teacher:say", 0), ("random_teacher:say,linear", 1)):
        together = reports[names]
        assert together.members[place] == alone
        assert together.members[place].temperature > 0.06
        assert together.validation_images == len(target.validation)
        assert together.validation_accuracy is not None
        assert together.validation_accuracy < 1
    with pytest.raises(UnknownName, match="did you mean 'majority'"):
        teach(glyphs, target, embedded, TeacherSpec(vote="majorty"))


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        (np.full((5, 3), np.nan), "not finite.*nan"),
        (np.zeros((5, 4)), r"shape \(5, 4\), expected \(5, 3\)"),
        (np.zeros((4, 3)), r"shape \(4, 3\), expected \(5, 3\)"),
        ("cat", "expected numbers"),
    ],
)
def test_bad_logits_are_refused(logits: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        checked_logits("mine", logits, 5, 3)


def test_a_table_by_position(tmp_path: Path) -> None:
    wanted = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    np.save(tmp_path / "t.npy", wanted)
    teacher = table_teacher(tmp_path / "t.npy", CLASSES, 6, lambda: pa.array([]))
    np.testing.assert_array_equal(teacher.ask(np.array([4, 1]), 2), wanted[[4, 1]])


def test_a_table_by_key_in_any_order(tmp_path: Path) -> None:
    keys = pa.array(["a", "b", "c"])
    columns = {"key": ["c", "a", "b"], "two": [3.0, 1, 2], "zero": [30.0, 10, 20], "one": [0.0, 0, 0]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    teacher = table_teacher(tmp_path / "t.parquet", CLASSES, 3, lambda: keys)
    np.testing.assert_array_equal(teacher.ask(np.arange(3), 3), [[10, 0, 1], [20, 0, 2], [30, 0, 3]])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"position": [0, 1, 2], "zero": [0.0] * 3, "one": [0.0] * 3}, "no column 'two'"),
        ({"position": [0, 1, 1], "zero": [0.0] * 3, "one": [0.0] * 3, "two": [0.0] * 3}, "each of the reference's 3"),
        ({"key": ["a", "b", "x"], "zero": [0.0] * 3, "one": [0.0] * 3, "two": [0.0] * 3}, "no image 'x'"),
        ({"zero": [0.0] * 3, "one": [0.0] * 3, "two": [0.0] * 3}, "neither a column"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=said):
        table_teacher(tmp_path / "t.parquet", CLASSES, 3, lambda: pa.array(["a", "b", "c"]))


def test_tables_of_the_wrong_size_or_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros((5, 3)))
    with pytest.raises(DataError, match="expected \\(6, 3\\)"):
        table_teacher(tmp_path / "t.npy", CLASSES, 6, lambda: pa.array([]))
    np.save(tmp_path / "wide.npy", np.zeros((6, 4)))
    with pytest.raises(DataError, match="expected \\(1, 3\\)"):
        table_teacher(tmp_path / "wide.npy", CLASSES, 6, lambda: pa.array([]))
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not an array of numbers"):
        table_teacher(tmp_path / "objects.npy", CLASSES, 6, lambda: pa.array([]))
    (tmp_path / "t.csv").write_text("x")
    with pytest.raises(RequestError, match=r"\.npy or a \.parquet"):
        table_teacher(tmp_path / "t.csv", CLASSES, 6, lambda: pa.array([]))
    with pytest.raises(RequestError, match="no such table"):
        table_teacher(tmp_path / "none.npy", CLASSES, 6, lambda: pa.array([]))


def test_a_function_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_teacher.py").write_text(
        "def classify(images):\n    return [[image.width, 0, 1] for image in images]\n"
    )
    monkeypatch.chdir(tmp_path)
    teacher = function_teacher("my_teacher:classify", 3)
    np.testing.assert_array_equal(teacher.ask([SimpleNamespace(width=7)], 1), [[7, 0, 1]])
    with pytest.raises(RequestError, match="no function 'other'"):
        function_teacher("my_teacher:other", 3)
    with pytest.raises(RequestError, match="cannot be imported"):
        function_teacher("no_such_module_at_all:f", 3)


class Reader:
    """An encoder with a text tower of random weights: words to fixed random directions."""

    config = SimpleNamespace(name="fake")
    text_note = ""

    @staticmethod
    def encode_text(lines: list[str]) -> np.ndarray:
        made = np.stack([np.random.default_rng(sum(map(ord, line))).normal(size=8) for line in lines])
        unit: np.ndarray = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
        return unit


def test_zeroshot_answers_with_the_class_whose_sentences_are_nearest() -> None:
    teacher = zeroshot_teacher(Reader(), ("electric_guitar", "cat"))  # type: ignore[arg-type]
    words = [Reader.encode_text([t.format(n) for t in TEMPLATES]).mean(axis=0) for n in ("electric guitar", "cat")]
    vectors = np.stack([w / np.linalg.norm(w) for w in words]).astype(np.float32)
    logits = teacher.ask(vectors, 2)
    assert logits.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(np.diag(logits), 100, rtol=1e-4)
    assert spoken("electric_guitar") == "electric guitar"


def test_zeroshot_needs_a_text_tower(glyphs: Index) -> None:
    with pytest.raises(RequestError, match=r"reads no text \(gradients have no text tower\)"):
        plada.select(glyphs, target="digits", budget=400, teacher="zeroshot", home=glyphs.home)


def test_unknown_teachers_list_what_there_is(glyphs: Index) -> None:
    with pytest.raises(UnknownName, match=r"known: .*linear.*zeroshot"):
        plada.select(glyphs, target="digits", budget=400, teacher="liner", home=glyphs.home)
    with pytest.raises(RequestError, match="different names"):
        plada.select(glyphs, target="digits", budget=400, teacher="linear,linear", home=glyphs.home)
