"""Every method sends at most its budget, and the student sees what has arrived."""

import itertools

import numpy as np
import pytest

from plada.benchmark.gaussian_methods import KINDS, read_gaussians, write_gaussians
from plada.benchmark.image_methods import (
    SIDES,
    ImagePool,
    as_jpeg,
    image_pool,
    pack_pictures,
    shrunk,
    unpack_pictures,
    whole_jpeg,
)
from plada.benchmark.label_methods import send_at_keep_rate
from plada.benchmark.messages import (
    AllTargetImages,
    DoesNotFit,
    KnownAccuracy,
    Message,
    ProbeWeights,
    ReferenceLabels,
    TargetPictures,
)
from plada.benchmark.methods import METHODS, ORACLE, PAPERS_RULES, choose_methods
from plada.benchmark.probe_methods import principal_basis, pruned_basis, read_head, write_head
from plada.benchmark.random_heads import random_heads
from plada.benchmark.scenario import Scenario, largest_fitting
from plada.benchmark.students import StudentPlan, student_accuracy
from plada.errors import DataError, UnknownName
from plada.networks.network import NetworkSpec
from plada.payload.coders.paper_coders import paper_bytes
from plada.payload.payload import parse_payload
from plada.selection.rules.registry import RULES
from plada.sources.decode import decode
from tests.conftest import picture

LINEAR = StudentPlan(network=NetworkSpec(name="linear"))
BUDGET = 600


def send(scenario: Scenario, name: str, budget: int = BUDGET) -> Message:
    """What a method sends, asked once for all tests."""
    known: dict[tuple[str, int], Message] = scenario.cache.setdefault("messages", {})
    if (name, budget) not in known:
        message = METHODS[name].send(scenario, budget)
        assert isinstance(message, Message), message
        known[name, budget] = message
    return known[name, budget]


def accuracy(scenario: Scenario, content: object) -> float:
    found = student_accuracy(scenario, content, LINEAR)  # type: ignore[arg-type]
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.once])
def test_every_method_keeps_its_budget_and_says_something(scenario: Scenario, name: str) -> None:
    message = send(scenario, name)
    assert message.size is not None
    assert message.size <= BUDGET
    if not name.startswith("auto"):  # which sends fewer images where these teach better
        assert message.size > 0.5 * BUDGET or len(message.content) == len(scenario.index), "all there is"
    if message.data is not None:
        assert message.size == len(message.data)
    assert 0.15 < accuracy(scenario, message.content) <= 1.0


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith(("auto", "herd"))])
def test_our_files_decode_to_the_rows_that_students_see(scenario: Scenario, name: str) -> None:
    message = send(scenario, name)
    assert isinstance(message.content, ReferenceLabels)
    assert message.data is not None
    read = parse_payload(message.data, shared=scenario.sender(METHODS[name].has or "manifest").shared).payload
    assert np.array_equal(read.positions, scenario.labels.positions[message.content.rows])
    assert np.array_equal(read.labels, scenario.labels.labels[message.content.rows])
    assert read.class_counts() and min(read.class_counts()) >= 1


@pytest.mark.parametrize("name", [*PAPERS_RULES, "random"])
def test_the_papers_rules_are_as_large_as_its_coder_allows(scenario: Scenario, name: str) -> None:
    message = send(scenario, name)
    assert isinstance(message.content, ReferenceLabels)

    def size(rows: np.ndarray) -> int:
        return paper_bytes(
            scenario.labels.positions[rows], scenario.labels.labels[rows], len(scenario.index), scenario.classes
        )

    assert message.size == size(message.content.rows)
    choose = RULES[name].prepare(scenario.labels, scenario.context)
    assert set(message.content.rows.tolist()) == set(choose(len(message.content)).rows.tolist())
    assert size(np.sort(choose(len(message.content) + 12).rows)) > BUDGET


def test_nothing_fits_into_two_bytes(scenario: Scenario) -> None:
    assert largest_fitting(lambda k: np.arange(k), scenario.labels, 1500, 2, 10) is None
    for name, method in METHODS.items():
        if not method.once:
            message = method.send(scenario, 2)
            assert isinstance(message, DoesNotFit), name
            assert message.needs is None or message.needs > 2
            assert message.note


def test_what_is_needed_is_enough(scenario: Scenario) -> None:
    for name in (
        "auto-manifest",
        "images-random",
        "images-k-centre-shrunk",
        "probe-pruned",
        "probe-axes",
        "gaussians",
        "random-heads",
    ):
        message = METHODS[name].send(scenario, 2)
        assert isinstance(message, DoesNotFit)
        assert message.needs is not None
        assert isinstance(METHODS[name].send(scenario, message.needs), Message), name


def test_pictures_arrive_as_they_were_sent(scenario: Scenario) -> None:
    for name in ("images-random", "images-k-centre", "images-random-shrunk"):
        message = send(scenario, name, 1500)
        assert isinstance(message.content, TargetPictures)
        assert message.data is not None
        files, labels = unpack_pictures(message.data, scenario.classes)
        assert np.array_equal(labels, message.content.labels)
        assert len(files) == len(message.content)
        counts = np.bincount(labels, minlength=scenario.classes)
        assert counts.max() - counts.min() <= 1, "class-balanced"
        assert all(decode(file).size == (8, 8) for file in message.content.files)
    more = send(scenario, "images-random-shrunk", 1500)
    assert len(more.content) > 1.2 * len(send(scenario, "images-random", 1500).content), "no tables"


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


def test_k_centre_takes_what_is_far_from_what_it_has(scenario: Scenario) -> None:
    pool = ImagePool(scenario)
    order = pool.order("k-centre")
    assert sorted(order.tolist()) == list(range(len(pool.labels)))
    rows = [int(row) for row in order if pool.labels[row] == 4]
    vectors = pool.vectors[rows]
    gaps = [float(np.linalg.norm(vectors[:at] - vectors[at], axis=1).min()) for at in range(1, len(rows))]
    assert all(gap >= later - 1e-5 for gap, later in itertools.pairwise(gaps))
    assert not np.array_equal(order, pool.order("random"))
    assert np.array_equal(pool.order("random"), pool.order("random"))
    assert set(pool.labels[order[:10]].tolist()) == set(range(10)), "each class in turn"


def test_full_data_and_teacher_bound_the_others(scenario: Scenario) -> None:
    full, teacher = send(scenario, "full-data"), send(scenario, "teacher")
    assert isinstance(full.content, AllTargetImages)
    pool = image_pool(scenario)
    assert full.size == sum(len(split.collection.read(at)) for split, at in pool.places)
    assert isinstance(teacher.content, KnownAccuracy)
    assert teacher.size is None
    assert accuracy(scenario, teacher.content) == scenario.teacher_accuracy > 0.95


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


def test_a_whole_probe_in_int8_is_nearly_the_teacher(scenario: Scenario) -> None:
    message = send(scenario, "probe-int8")
    assert isinstance(message.content, ProbeWeights)
    assert abs(accuracy(scenario, message.content) - scenario.teacher_accuracy) < 0.02
    assert message.size is not None
    assert message.size <= 5 + 40 + 10 * scenario.index.dimension


def test_bases_of_heads(scenario: Scenario) -> None:
    principal, pruned = principal_basis(scenario), pruned_basis(scenario)
    assert principal.axes is not None
    identity = principal.axes.T @ principal.axes
    np.testing.assert_allclose(identity, np.eye(len(identity)), atol=1e-4)
    points = principal.coordinates(
        scenario.vectors(scenario.labels.positions).astype(np.float32), scenario.index.mean, np.arange(8)
    )
    spread = points.var(axis=0)
    assert all(one >= other for one, other in itertools.pairwise(spread))
    assert sorted(pruned.order.tolist()) == list(range(scenario.index.dimension))


def test_keep_rates_have_the_papers_numbers_of_images(scenario: Scenario) -> None:
    message = send_at_keep_rate(scenario, "energy", 0.02)
    assert len(message.content) == 30
    assert isinstance(message.content, ReferenceLabels)
    coders = message.detail["coders"]
    assert coders["raw"] == min(6 * 30, 188 + 2 * 30)
    assert message.size == coders["zstd"]
    assert (
        coders["ours, pack"]
        <= coders["ours, manifest"]
        == scenario.sender("manifest").size(scenario.payload(message.content.rows))
    )
    assert len(send_at_keep_rate(scenario, "random", 1.0).content) == 1500


def test_names_of_methods() -> None:
    assert choose_methods(None, linear=True) == tuple(METHODS)
    assert not {"probe-int8", "probe-axes"} & set(choose_methods(None, linear=False))
    assert choose_methods("paper, auto-pack", linear=True) == ("auto-pack", "paper", "teacher")
    assert set(choose_methods([ORACLE], linear=True)) == {*PAPERS_RULES, "teacher"}
    with pytest.raises(UnknownName, match="did you mean 'auto-manifest'"):
        choose_methods("auto-manifst", linear=True)


def test_a_network_as_student(scenario: Scenario) -> None:
    quick = StudentPlan(network=NetworkSpec(name="small_cnn"), recipe={"epochs": 2})
    for content in (
        send(scenario, "herd-sure-manifest", 150).content,
        send(scenario, "images-random-shrunk", 2000).content,
    ):
        found = student_accuracy(scenario, content, quick)
        assert isinstance(found, float)
        assert 0.0 <= found <= 1.0
    refused = student_accuracy(scenario, send(scenario, "probe-axes").content, quick)
    assert isinstance(refused, DoesNotFit)
    assert "no small_cnn" in refused.note
    assert min(SIDES) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_gaussians_come_back_as_they_were_rounded(kind: str) -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(7, 33)).astype(np.float32)
    widths = np.full((7, 33), 2.0 ** (-1.25), np.float32)
    data = write_gaussians(means, widths, kind, 6)
    back, spreads = read_gaussians(data)
    assert back.shape == spreads.shape == (7, 33)
    assert np.abs(back - means).max() < 0.2
    assert np.allclose(spreads, widths)
    assert read_gaussians(write_gaussians(back, spreads, kind, 6))[1].tolist() == spreads.tolist()
    extremes = read_gaussians(write_gaussians(means * 0, widths * 0, kind, 2))
    assert not extremes[0].any()
    assert 0 < extremes[1].max() < 0.2


def test_gaussians_teach_what_arrived(scenario: Scenario) -> None:
    small, large = (send(scenario, "gaussians", budget) for budget in (BUDGET, 4000))
    assert isinstance(small.content, ProbeWeights)
    assert small.detail["kind"] in KINDS
    assert small.data == METHODS["gaussians"].send(scenario, BUDGET).data, "the same bytes again"  # type: ignore[union-attr]
    assert accuracy(scenario, large.content) > 0.6
    assert abs(float(large.detail["expected"]) - accuracy(scenario, large.content)) < 0.15
    refused = student_accuracy(scenario, small.content, StudentPlan(network=NetworkSpec(name="small_cnn")))
    assert isinstance(refused, DoesNotFit)


def test_random_heads_are_drawn_alike_on_both_sides(scenario: Scenario) -> None:
    assert np.array_equal(random_heads(5, 3, 7)[:4], random_heads(5, 3, 4))
    message = send(scenario, "random-heads")
    assert message.detail["coefficients"] == (BUDGET - 4 - 2 * scenario.classes) // 2
    assert message.data == METHODS["random-heads"].send(scenario, BUDGET).data, "the same bytes again"  # type: ignore[union-attr]
    assert abs(float(message.detail["expected"]) - accuracy(scenario, message.content)) < 0.15
