"""Every method sends at most its budget, and the student sees what has arrived."""

import itertools

import numpy as np
import pytest

from plada.benchmark.course import Course, most_that_fit
from plada.benchmark.images import SIDES, Pool, as_jpeg, pack_pictures, pool_of, shrunk, unpack_pictures, whole_jpeg
from plada.benchmark.labels import at_keep_rate
from plada.benchmark.methods import METHODS, ORACLE, PAPERS_RULES, pick_methods
from plada.benchmark.sent import Everything, Known, Labels, Pictures, Sent, Unfit, Weights
from plada.benchmark.students import Students, score
from plada.benchmark.weights import principal_basis, pruned_basis, read_head, write_head
from plada.errors import DataError, UnknownName
from plada.payload.coders.paper import paper_bytes
from plada.payload.payload import parse_payload
from plada.selection.rules.registry import RULES
from plada.sources.decode import decode
from tests.conftest import picture

LINEAR = Students()
BUDGET = 600


def sent(course: Course, name: str, budget: int = BUDGET) -> Sent:
    """What a method sends, asked once for all tests."""
    known: dict[tuple[str, int], Sent] = course.kept.setdefault("sent", {})
    if (name, budget) not in known:
        answer = METHODS[name].ask(course, budget)
        assert isinstance(answer, Sent), answer
        known[name, budget] = answer
    return known[name, budget]


def accuracy(course: Course, what: object) -> float:
    found = score(course, what, LINEAR)  # type: ignore[arg-type]
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.once])
def test_every_method_keeps_its_budget_and_says_something(course: Course, name: str) -> None:
    answer = sent(course, name)
    assert answer.size is not None
    assert answer.size <= BUDGET
    assert answer.size > 0.5 * BUDGET or len(answer.what) == len(course.index), "all there is"
    if answer.data is not None:
        assert answer.size == len(answer.data)
    assert 0.15 < accuracy(course, answer.what) <= 1.0


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith(("auto", "herd"))])
def test_our_files_decode_to_the_rows_that_students_see(course: Course, name: str) -> None:
    answer = sent(course, name)
    assert isinstance(answer.what, Labels)
    assert answer.data is not None
    read = parse_payload(answer.data, side=course.sender(METHODS[name].has or "manifest").side).payload
    assert np.array_equal(read.positions, course.labels.positions[answer.what.rows])
    assert np.array_equal(read.labels, course.labels.labels[answer.what.rows])
    assert read.class_counts() and min(read.class_counts()) >= 1


@pytest.mark.parametrize("name", [*PAPERS_RULES, "random"])
def test_the_papers_rules_are_as_large_as_its_coder_allows(course: Course, name: str) -> None:
    answer = sent(course, name)
    assert isinstance(answer.what, Labels)

    def size(rows: np.ndarray) -> int:
        return paper_bytes(course.labels.positions[rows], course.labels.labels[rows], len(course.index), course.classes)

    assert answer.size == size(answer.what.rows)
    choose = RULES[name].prepare(course.labels, course.context)
    assert set(answer.what.rows.tolist()) == set(choose(len(answer.what)).rows.tolist())
    assert size(np.sort(choose(len(answer.what) + 12).rows)) > BUDGET


def test_nothing_fits_into_two_bytes(course: Course) -> None:
    assert most_that_fit(lambda k: np.arange(k), course.labels, 1500, 2, 10) is None
    for name, method in METHODS.items():
        if not method.once:
            answer = method.ask(course, 2)
            assert isinstance(answer, Unfit), name
            assert answer.needs is None or answer.needs > 2
            assert answer.note


def test_what_is_needed_is_enough(course: Course) -> None:
    for name in ("auto-manifest", "images-random", "images-k-centre-shrunk", "probe-pruned", "probe-axes"):
        answer = METHODS[name].ask(course, 2)
        assert isinstance(answer, Unfit)
        assert answer.needs is not None
        assert isinstance(METHODS[name].ask(course, answer.needs), Sent), name


def test_pictures_arrive_as_they_were_sent(course: Course) -> None:
    for name in ("images-random", "images-k-centre", "images-random-shrunk"):
        answer = sent(course, name, 1500)
        assert isinstance(answer.what, Pictures)
        assert answer.data is not None
        files, labels = unpack_pictures(answer.data, course.classes)
        assert np.array_equal(labels, answer.what.labels)
        assert len(files) == len(answer.what)
        counts = np.bincount(labels, minlength=course.classes)
        assert counts.max() - counts.min() <= 1, "class-balanced"
        assert all(decode(file).size == (8, 8) for file in answer.what.files)
    more = sent(course, "images-random-shrunk", 1500)
    assert len(more.what) > 1.2 * len(sent(course, "images-random", 1500).what), "no tables"


def test_pictures_without_their_tables_are_the_same_pictures() -> None:
    for image in (picture(3, (64, 48)), picture(4).convert("L").convert("RGB")):
        whole, side = as_jpeg(image), min(image.size)
        bare = shrunk(image, side)
        assert len(bare) < len(whole) - 250
        assert np.array_equal(np.asarray(decode(whole_jpeg(bare))), np.asarray(decode(whole)))
    assert decode(whole_jpeg(shrunk(picture(5, (60, 40)), 8))).size == (12, 8)


def test_pictures_in_one_frame() -> None:
    files = [as_jpeg(picture(number)) for number in range(5)]
    labels = np.array([300, 2, 0, 255, 256])
    data = pack_pictures(files, labels, 400)
    back, numbers = unpack_pictures(data, 400)
    assert back == files
    assert numbers.tolist() == labels.tolist()
    assert len(data) < sum(map(len, files)), "the tables are alike"
    with pytest.raises(DataError, match="more than one end"):
        pack_pictures([files[0] + files[1]], labels[:1], 400)


def test_k_centre_takes_what_is_far_from_what_it_has(course: Course) -> None:
    pool = Pool(course)
    order = pool.order("k-centre")
    assert sorted(order.tolist()) == list(range(len(pool.labels)))
    rows = [int(row) for row in order if pool.labels[row] == 4]
    vectors = pool.vectors[rows]
    gaps = [float(np.linalg.norm(vectors[:at] - vectors[at], axis=1).min()) for at in range(1, len(rows))]
    assert all(gap >= later - 1e-5 for gap, later in itertools.pairwise(gaps))
    assert not np.array_equal(order, pool.order("random"))
    assert np.array_equal(pool.order("random"), pool.order("random"))
    assert set(pool.labels[order[:10]].tolist()) == set(range(10)), "each class in turn"


def test_full_data_and_teacher_bound_the_others(course: Course) -> None:
    full, teacher = sent(course, "full-data"), sent(course, "teacher")
    assert isinstance(full.what, Everything)
    pool = pool_of(course)
    assert full.size == sum(len(split.collection.read(at)) for split, at in pool.places)
    assert isinstance(teacher.what, Known)
    assert teacher.size is None
    assert accuracy(course, teacher.what) == course.teacher > 0.95


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("dimensions", [3, 40, 200])
def test_heads_come_back_to_half_a_step(bits: int, dimensions: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(dimensions, 7)).astype(np.float32)
    bias = rng.normal(size=7).astype(np.float32)
    taken = np.sort(rng.permutation(300)[:dimensions])
    data = write_head(weight, bias, bits, taken, 300)
    back, read_bias, read_taken = read_head(data, named=True, dimension=300)
    assert read_taken.tolist() == taken.tolist()
    np.testing.assert_allclose(read_bias, bias, atol=2e-3)
    clipped = np.abs(weight) <= np.abs(back).max(axis=0)
    step = np.abs(back).max(axis=0) / max(1, 2 ** (bits - 1) - 1)
    assert (np.abs(back - weight)[clipped] <= np.broadcast_to(0.51 * step, weight.shape)[clipped] + 1e-3).all()
    assert len(data) <= 5 + 28 + min(38, 2 * dimensions) + -(-dimensions * 7 * bits // 8)


def test_sparse_heads_are_pressed() -> None:
    weight = np.zeros((400, 3), np.float32)
    weight[5] = 1.0
    data = write_head(weight, np.zeros(3, np.float32), 8, None, 400)
    assert len(data) < 100
    assert np.array_equal(read_head(data, named=False, dimension=400)[0] != 0, weight != 0)


def test_a_whole_probe_in_int8_is_nearly_the_teacher(course: Course) -> None:
    answer = sent(course, "probe-int8")
    assert isinstance(answer.what, Weights)
    assert abs(accuracy(course, answer.what) - course.teacher) < 0.02
    assert answer.size is not None
    assert answer.size <= 5 + 40 + 10 * course.index.dimension


def test_bases_of_heads(course: Course) -> None:
    principal, pruned = principal_basis(course), pruned_basis(course)
    assert principal.axes is not None
    identity = principal.axes.T @ principal.axes
    np.testing.assert_allclose(identity, np.eye(len(identity)), atol=1e-4)
    points = principal.coordinates(
        course.vectors(course.labels.positions).astype(np.float32), course.index.mean, np.arange(8)
    )
    spread = points.var(axis=0)
    assert all(one >= other for one, other in itertools.pairwise(spread))
    assert sorted(pruned.order.tolist()) == list(range(course.index.dimension))


def test_keep_rates_have_the_papers_numbers_of_images(course: Course) -> None:
    answer = at_keep_rate(course, "energy", 0.02)
    assert len(answer.what) == 30
    assert isinstance(answer.what, Labels)
    coders = answer.detail["coders"]
    assert coders["raw"] == min(6 * 30, 188 + 2 * 30)
    assert answer.size == coders["zstd"]
    assert (
        coders["ours, pack"]
        <= coders["ours, manifest"]
        == course.sender("manifest").size(course.payload(answer.what.rows))
    )
    assert len(at_keep_rate(course, "random", 1.0).what) == 1500


def test_names_of_methods() -> None:
    assert pick_methods(None, linear=True) == tuple(METHODS)
    assert not {"probe-int8", "probe-axes"} & set(pick_methods(None, linear=False))
    assert pick_methods("paper, auto-pack", linear=True) == ("auto-pack", "paper", "teacher")
    assert set(pick_methods([ORACLE], linear=True)) == {*PAPERS_RULES, "teacher"}
    with pytest.raises(UnknownName, match="did you mean 'auto-manifest'"):
        pick_methods("auto-manifst", linear=True)


def test_a_network_as_student(course: Course) -> None:
    quick = Students(student="small_cnn", recipe={"epochs": 2})
    for what in (sent(course, "herd-even-manifest", 150).what, sent(course, "images-random-shrunk", 2000).what):
        found = score(course, what, quick)
        assert isinstance(found, float)
        assert 0.0 <= found <= 1.0
    refused = score(course, sent(course, "probe-axes").what, quick)
    assert isinstance(refused, Unfit)
    assert "no small_cnn" in refused.note
    assert min(SIDES) == 8
