"""`auto` finds the better rule where there is one, keeps the default where there is not, and repeats itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plada.common.statistics import softmax
from plada.errors import BudgetTooSmall, RequestError
from plada.labeler.embedded_target import EmbeddedSplit, EmbeddedTarget
from plada.labeler.pseudo_labels import PseudoLabels, pseudo_label
from plada.labeler.scores import SCORES
from plada.networks.linear_head import fit_head
from plada.retrieval.embeddings import hold
from plada.selection.auto import Judge, choose_rule, numbers_of_images
from plada.selection.prepare import JudgeSpec, RuleInputs, prepare
from plada.selection.quotas import weighted_quotas
from plada.selection.rules.herding import _lowest, herd_order
from plada.selection.rules.registry import DEFAULT, RULES
from plada.selection.rules.rule import Chosen, Context
from plada.selection.rules.shares import MIN_IMAGES, _pairs
from plada.selection.space import main_axes, make_space
from plada.selection.student import small_student

I64 = np.ndarray


def world(
    images: int = 900, seed: int = 0, noise: float = 0.6
) -> tuple[PseudoLabels, np.ndarray, EmbeddedSplit, np.ndarray]:
    """A reference of three uneven classes, labelled by a linear teacher, and a target of 20 images a class."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 24))

    def draw(labels: np.ndarray) -> np.ndarray:
        made: np.ndarray = centres[labels] + noise * rng.normal(size=(len(labels), 24))
        unit: np.ndarray = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
        return unit

    vectors = draw(rng.choice(3, images, p=[0.7, 0.2, 0.1]))
    target_labels = np.repeat(np.arange(3), 20)
    target = EmbeddedSplit(draw(target_labels), target_labels, 0)
    mean = vectors.mean(axis=0)
    head = fit_head(target.vectors, target_labels, classes=3, mean=mean, penalty=1e-3)
    labels = pseudo_label([(np.arange(images), vectors)], head.logits, classes=3)
    return labels, vectors, target, mean


def prepared(seed: int = 0, noise: float = 0.6) -> RuleInputs:
    labels, vectors, target, mean = world(seed=seed, noise=noise)
    nothing = EmbeddedSplit(target.vectors[:0], target.labels[:0], 0)
    own = JudgeSpec(own_teachers=True)
    return prepare(labels, lambda p: vectors[p], mean, EmbeddedTarget(target, nothing), judge=own, seed=seed)


def size(chosen: Chosen) -> int:
    return 20 + 2 * len(chosen.rows)


def test_auto_fills_the_budget_and_reports_what_it_tried() -> None:
    made = prepared()
    found = choose_rule(made.labels, made.context, made.judge, size, budget=200, min_images=3)
    assert found.trial.bytes == size(found.trial.selection) <= 200
    assert found.trial.bytes >= 0.99 * 200
    assert found.tried[0].rule == DEFAULT
    assert all(0 <= (one.validation_accuracy or 0) <= 1 for one in found.tried)
    assert found.forecast is not None
    low, high = found.forecast.interval
    assert low <= found.forecast.accuracy <= high
    assert [bytes_ for bytes_, _ in found.forecast.points] == sorted(bytes_ for bytes_, _ in found.forecast.points)
    again = choose_rule(made.labels, made.context, made.judge, size, budget=200, min_images=3)
    assert np.array_equal(found.trial.selection.rows, again.trial.selection.rows)
    assert found.rule == again.rule


@pytest.mark.parametrize("only", [None, "herd-sure"])
def test_students_see_at_most_a_stated_number_of_images(only: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """More images are sent where they fit, and no larger number is judged."""
    made = prepared()
    assert made.judge is not None
    monkeypatch.setattr("plada.selection.auto.JUDGED", 30)
    seen: list[int] = []
    judge = Judge.__call__

    def counted(self: Judge, cells: Sequence[tuple[str, int]], advance: Callable[[str], None]) -> None:
        seen.extend(count for _, count in cells)
        judge(self, cells, advance)

    monkeypatch.setattr(Judge, "__call__", counted)
    found = choose_rule(made.labels, made.context, made.judge, size, budget=200, min_images=3, only=only)
    assert max(seen) == 30
    assert len(found.trial.selection.rows) == 90
    assert found.forecast is not None


def test_auto_leaves_a_default_that_is_bad() -> None:
    """With plain energy as the default, class balance leads it by far more than its noise."""
    made = prepared(noise=1.2)
    found = choose_rule(
        made.labels, made.context, made.judge, size, budget=32, min_images=3, default="energy", candidates=("herd",)
    )
    assert found.rule == "herd"
    assert "led energy" in found.note


def test_auto_keeps_the_default_among_equals() -> None:
    made = prepared()
    found = choose_rule(
        made.labels, made.context, made.judge, size, budget=400, min_images=3, default="herd", candidates=("herd-even",)
    )
    assert found.rule == "herd"
    assert found.note == ""


def test_an_approximate_size_changes_no_budget() -> None:
    made = prepared()
    rough = choose_rule(
        made.labels,
        made.context,
        made.judge,
        size,
        approximate_size=lambda c: 3 * len(c.rows) + 7,
        budget=200,
        min_images=3,
    )
    assert rough.trial.bytes == size(rough.trial.selection) <= 200
    assert rough.trial.bytes >= 0.99 * 200


def test_one_rule_alone_is_judged_but_not_compared() -> None:
    made = prepared()
    found = choose_rule(made.labels, made.context, made.judge, size, budget=200, min_images=3, only="random")
    assert [one.rule for one in found.tried] == ["random"]
    assert found.forecast is not None


def test_a_keep_rate_counts_images_and_holds_the_budget() -> None:
    made = prepared()
    found = choose_rule(made.labels, made.context, made.judge, size, budget=200, min_images=3, keep=37, only="energy")
    assert found.trial.k == len(found.trial.selection.rows) == 37
    with pytest.raises(RequestError, match=r"150 images need a file of 320 bytes.*--budget 320"):
        choose_rule(made.labels, made.context, made.judge, size, budget=200, min_images=3, keep=150, only="energy")


def test_without_folds_the_default_is_taken_and_said() -> None:
    made = prepared()
    found = choose_rule(made.labels, made.context, None, size, budget=200, min_images=3)
    assert found.rule == DEFAULT
    assert "nothing to judge by" in found.note
    assert found.forecast is None


def test_a_budget_for_not_even_one_a_class() -> None:
    made = prepared()
    with pytest.raises(BudgetTooSmall):
        choose_rule(made.labels, made.context, made.judge, size, budget=21, min_images=3)


def test_corrected_quotas_answer_no_worse_on_what_they_look_at() -> None:
    made = prepared()

    def right(rule: str) -> float:
        rows = RULES[rule].prepare(made.labels, made.context)(30).rows
        head = small_student(made.labels, made.context, rows)
        return float((head.logits(made.context.target_points()).argmax(axis=1) == made.context.target_labels).mean())

    assert right("herd-even") >= right("herd") - 0.05


@pytest.mark.parametrize(("peak", "expected"), [(0.2, 0.2), (0.87, 0.85), (0.5, 0.5), (0.0, 0.15)])
def test_with_two_classes_the_likeliest_share_is_found(peak: float, expected: float) -> None:
    """Of 70 images: a share of 0.1 would leave 7 of a class."""
    tried: list[float] = []

    def of_shares(shares: np.ndarray) -> Chosen:
        tried.append(float(shares[0]))
        first = round(70 * float(shares[0]))
        return Chosen(np.arange(70), (np.arange(70) < first).astype(np.float32))

    def answers(chosen: Chosen) -> tuple[np.ndarray, float, float]:
        return np.zeros((1, 2), np.float32), 0.0, 1 - abs(float(chosen.scores.mean()) - peak)

    best, shares = _pairs(of_shares(np.full(2, 0.5)), np.full(2, 0.5), of_shares=of_shares, answers=answers)
    assert shares.tolist() == pytest.approx([expected, 1 - expected])
    assert float(best.scores.mean()) == pytest.approx(expected, abs=0.02)
    assert min(tried) >= MIN_IMAGES / 70 <= 1 - max(tried)
    assert len(set(tried)) == len(tried) <= 9  # half of the row is enough to climb


def test_two_classes_of_which_a_student_answers_one_too_often() -> None:
    """The target lies nearer to the one class's images: its quota is cut until the other is answered as well."""
    rng = np.random.default_rng(0)
    wanted, labels = np.repeat([0, 1], 60), np.repeat([0, 1], 400)
    target = rng.normal(size=(120, 6)).astype(np.float32) + np.where(wanted, 0.7, -0.1)[:, None]
    vectors = rng.normal(size=(800, 6)).astype(np.float32) * np.where(labels, 1.0, 2.5)[:, None]
    vectors += np.where(labels, 1.2, -0.6)[:, None].astype(np.float32)
    scores = {"margin": rng.normal(size=800).astype(np.float32)}
    pseudo = PseudoLabels(np.arange(800), labels, scores, 2)
    context = Context(lambda p: vectors[p], target.astype(np.float32), wanted)

    def likely(rule: str) -> float:
        rows = RULES[rule].prepare(pseudo, context)(100).rows
        odds = softmax(small_student(pseudo, context, rows, steps=30).logits(context.target_points()))
        return float(odds[np.arange(120), wanted].mean())

    assert likely("herd-even") > likely("herd")


def test_herding_brings_the_mean_to_the_goal() -> None:
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(400, 12)).astype(np.float32)
    goal = (0.3 * rng.normal(size=12)).astype(np.float32)
    order = herd_order(candidates, goal, 40)
    assert len(set(order.tolist())) == 40
    nearest = np.argsort(np.linalg.norm(candidates - goal, axis=1))[:40]
    far = [float(np.linalg.norm(candidates[rows].mean(axis=0) - goal)) for rows in (order, nearest, np.arange(40))]
    assert far[0] < 0.3 * min(far[1:])
    assert sorted(herd_order(candidates, goal, 500).tolist()) == list(range(400))
    quick = herd_order(candidates, goal, 40, turns=8)
    assert len(set(quick.tolist())) == 40
    assert np.linalg.norm(candidates[quick].mean(axis=0) - goal) < min(far[1:])
    assert herd_order(candidates[:0], goal, 3).tolist() == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.data())
def test_the_lowest_costs_are_the_beginning_of_a_stable_sort(costs: list[int], data: st.DataObject) -> None:
    """Of equal costs the lower places; some are spent (infinite)."""
    cost = np.where(np.array(costs) == 5, np.inf, costs)
    many = data.draw(st.integers(1, len(costs) + 3))
    assert _lowest(cost, many).tolist() == np.argsort(cost, kind="stable")[:many].tolist()


def test_weighted_quotas() -> None:
    counts = np.array([100, 100, 3, 0])
    even = weighted_quotas(counts, 60, np.array([0.25, 0.25, 0.25, 0.25]))
    assert even.sum() == 60
    assert even[3] == 0
    assert even[2] == 3
    skewed = weighted_quotas(counts, 60, np.array([0.9, 0.1, 0.0, 0.0]))
    assert skewed[0] > 4 * skewed[1] > 0
    assert skewed[2] >= 1
    assert weighted_quotas(counts, 1000, np.ones(4) / 4).tolist() == counts.tolist()


def test_a_space_keeps_what_tells_the_target_apart() -> None:
    """A direction in which the reference hardly varies, and the target does, is an axis all the same."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 10)).astype(np.float32)
    vectors[:, 9] *= 1e-3
    target = rng.normal(size=(20, 10)).astype(np.float32) * 1e-2
    target[:, 9] = np.where(np.arange(20) % 2, 5.0, -5.0)
    space = make_space(
        lambda p: vectors[p], np.arange(300), vectors.mean(axis=0), target, main_axes(vectors, 4), axes=4
    )
    np.testing.assert_allclose(space.axes.T @ space.axes, np.eye(space.axes.shape[1]), atol=1e-5)
    apart = space.of(target)
    assert np.linalg.norm(apart[0] - apart[1]) == pytest.approx(10, rel=1e-2)
    np.testing.assert_allclose(space.at(np.array([7, 3])), space.of(vectors[[7, 3]]), atol=1e-5)


def test_embeddings_are_held_where_they_fit() -> None:
    vectors = np.arange(40, dtype=np.float16).reshape(20, 2)
    positions = np.array([1, 4, 5, 19])
    asked: list[int] = []

    def read(wanted: np.ndarray) -> np.ndarray:
        asked.extend(wanted.tolist())
        found: np.ndarray = vectors[wanted]
        return found

    def blocks() -> list[tuple[np.ndarray, np.ndarray]]:
        return [(np.arange(0, 5), vectors[:5]), (np.arange(5, 5), vectors[:0]), (np.arange(5, 20), vectors[5:])]

    held = hold(positions, 2, blocks, read)
    assert held(np.array([5, 1, 19])).tolist() == vectors[[5, 1, 19]].tolist()
    assert not asked
    assert hold(positions, 2, blocks, read, limit=8)(np.array([4])).tolist() == vectors[[4]].tolist()
    assert asked == [4]


def test_scores_that_rules_name_are_kept() -> None:
    assert {"energy", "entropy", "margin"} == set(SCORES)


def test_fewer_images_are_sent_where_they_teach_better() -> None:
    """Labels below the median margin are wrong: a part of the images beats all of them. Right labels keep all."""
    labels, vectors, target, mean = world()
    nothing = EmbeddedSplit(target.vectors[:0], target.labels[:0], 0)
    margin = labels.scores["margin"]
    wrong = replace(labels, labels=np.where(margin < np.median(margin), (labels.labels + 1) % 3, labels.labels))
    found = {}
    for name, shown in (("right", labels), ("wrong", wrong)):
        shared = JudgeSpec(own_teachers=False)
        made = prepare(shown, lambda p: vectors[p], mean, EmbeddedTarget(target, nothing), judge=shared, seed=0)
        found[name] = choose_rule(
            made.labels, made.context, made.judge, size, budget=100_000, min_images=3, default="entropy", candidates=()
        )
    assert found["right"].trial.k == 900
    assert found["wrong"].trial.k < 500
    assert found["wrong"].trial.bytes == size(found["wrong"].trial.selection) == 20 + 2 * found["wrong"].trial.k
    assert f"{found['wrong'].trial.k} images are sent where 900 would fit" in found["wrong"].note
    assert found["wrong"].forecast is not None
    assert "the figures are too high" in found["wrong"].forecast.note


def test_a_part_that_takes_more_than_the_whole_is_passed_over() -> None:
    """A coder that knows all labels takes least for all images: half of them may not fit where all do."""
    made = prepared()

    def odd(chosen: Chosen) -> int:
        k = len(chosen.rows)
        return 300 if k == 900 else 500 if k > 300 else 20 + k // 4

    found = choose_rule(made.labels, made.context, made.judge, odd, budget=400, min_images=3, candidates=())
    assert found.trial.bytes == odd(found.trial.selection) <= 400


def test_a_row_of_numbers_is_shared_by_all_budgets() -> None:
    rows = [numbers_of_images(5, most) for most in (300, 1400, 1430)]
    assert rows[0] == [20, 50, 125, 300]
    assert rows[1] == rows[2] == [20, 50, 125, 312, 781, 1400]
    assert numbers_of_images(43, 60) == [43, 60]
    assert numbers_of_images(5, 7) == [7]


def test_what_is_judged_once_serves_other_budgets() -> None:
    made = prepared()
    assert made.judge is not None
    said: list[str] = []
    for budget in (200, 400):
        choose_rule(made.labels, made.context, made.judge, size, budget=budget, min_images=3, advance=said.append)
    again = len(said)
    choose_rule(made.labels, made.context, made.judge, size, budget=400, min_images=3, advance=said.append)
    assert said[again:] == ["counting what fits"]
    assert any("trying core, part 3 of 5" in line for line in said)
