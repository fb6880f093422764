"""`plada.select` as people use it: corrections, keep rates, pictures, other teachers, and everything bad that can come in."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import plada
from plada.common.progress import Progress
from plada.errors import BudgetTooSmall, DataError, ReferenceMismatch, RequestError, UnknownName
from plada.retrieval.index import Index
from plada.selection.nearness import Nearness


def select(index: Index, target: str | Path, **options: Any) -> plada.Selection:
    options.setdefault("budget", 400)
    options.setdefault("rule", "balanced")
    return plada.select(index, target=target, home=index.home, **options)


def test_auto_is_the_default_and_repeats_itself(glyphs: Index, few_digits: Path) -> None:
    made = plada.select(glyphs, target=few_digits, budget=400, home=glyphs.home)
    again = plada.select(glyphs, target=few_digits, budget=400, home=glyphs.home)
    report = made.report
    assert len({one.rule for one in report.tried}) > 3
    assert report.tried[0].rule == "herd-sure"
    assert report.forecast is not None
    assert np.array_equal(made.payload.positions, again.payload.positions)
    assert report.bytes <= 400
    assert report.teacher.interval is not None
    assert report.teacher.accuracy is not None
    assert report.teacher.interval[0] < report.teacher.accuracy < report.teacher.interval[1]


def test_rules_are_judged_on_another_index_of_the_same_images(glyphs: Index, target_folder: Path) -> None:
    """The index itself stands for another one: students there are those on the index, but for their penalty."""
    noisy = plada.select(glyphs, target=target_folder, budget=110, home=glyphs.home).report.forecast
    spec = plada.RuleSpec(judge=glyphs.name)
    judged = plada.select(glyphs, target=target_folder, budget=110, rule=spec, home=glyphs.home).report.forecast
    assert noisy is not None
    assert judged is not None
    assert judged.second_view is not None
    assert judged.second_view >= judged.accuracy - 0.05
    other = replace(glyphs, info={**glyphs.info, "name": "other", "content_id": "00" * 16})
    with pytest.raises(ReferenceMismatch, match="judge other: is an index of other images than"):
        select(glyphs, target_folder, rule=plada.RuleSpec(judge=other))
    with pytest.raises(UnknownName):
        select(glyphs, target_folder, rule=plada.RuleSpec(judge="nowhere"))


def test_what_else_would_serve_is_forecast_when_asked(glyphs: Index, target_folder: Path) -> None:
    report = select(glyphs, target_folder, rule=plada.RuleSpec(name="balanced", compare=True), budget=2000).report
    assert 0.5 <= report.alternatives["quantised head"] <= 1
    assert "shrunk pictures" not in report.alternatives  # all fit: none is left to judge by
    less = select(glyphs, target_folder, rule=plada.RuleSpec(name="balanced", compare=True), budget=700).report
    assert 0 <= less.alternatives["shrunk pictures"] <= 1
    assert report.seconds["compare"] > 0
    assert not select(glyphs, target_folder, budget=2000).report.alternatives


def test_a_far_off_target_is_said(glyphs: Index, target_folder: Path) -> None:
    report = select(glyphs, target_folder).report
    assert report.nearness is not None
    assert report.nearness.ratio > 0
    far = replace(report, nearness=Nearness(1.52, {"glioma": 1.6, "none": 1.4}))
    assert "1.52 times as far from it" in far.nearness_in_words()
    assert "farthest: class 'glioma', 1.60" in far.nearness_in_words()
    assert replace(report, nearness=Nearness(1.1, {"cat": 1.1})).nearness_in_words() == ""


def test_a_keep_rate(glyphs: Index, few_digits: Path) -> None:
    made = select(glyphs, few_digits, keep="2%", budget="10kB", rule="paper")
    assert len(made.payload) == 30 == made.table.num_rows
    assert (
        select(glyphs, few_digits, keep=0.02, budget="10kB", rule="paper").payload.positions.tolist()
        == made.payload.positions.tolist()
    )


@pytest.mark.parametrize("keep", ["0%", "101%", "-1%", "much", 0.0, 2.0])
def test_impossible_keep_rates(glyphs: Index, few_digits: Path, keep: str | float) -> None:
    with pytest.raises(RequestError, match="expected a share such as 1%"):
        select(glyphs, few_digits, keep=keep)


def test_a_person_may_leave_images_out(glyphs: Index, few_digits: Path, tmp_path: Path) -> None:
    first = select(glyphs, few_digits)
    out = [str(key) for key in first.table["key"].to_pylist()[:7]]
    (tmp_path / "out.txt").write_text("# not these\n\n" + "\n".join(out) + "\n")
    second = select(glyphs, few_digits, corrections=plada.Corrections(exclude=tmp_path / "out.txt"))
    assert not set(second.table["key"].to_pylist()) & set(out)
    (tmp_path / "wrong.txt").write_text("no/such/key\n")
    with pytest.raises(DataError, match="no image 'no/such/key'"):
        select(glyphs, few_digits, corrections=plada.Corrections(exclude=tmp_path / "wrong.txt"))
    with pytest.raises(RequestError, match="cannot be read"):
        select(glyphs, few_digits, corrections=plada.Corrections(exclude=tmp_path / "absent.txt"))


def test_a_person_may_relabel(glyphs: Index, few_digits: Path, tmp_path: Path) -> None:
    first = select(glyphs, few_digits)
    assert first.write_table(tmp_path / "t.parquet") == tmp_path / "t.parquet"
    table = pq.read_table(tmp_path / "t.parquet")
    key, was = table["key"][0].as_py(), table["label"][0].as_py()
    other = (was + 3) % 10
    (tmp_path / "fix.csv").write_text(f"key,label\n{key},{other}\n")
    second = select(glyphs, few_digits, corrections=plada.Corrections(relabel=tmp_path / "fix.csv"))
    rows = dict(zip(second.table["key"].to_pylist(), second.table["label"].to_pylist(), strict=True))
    assert rows[key] == other
    assert first.report.class_counts != {} != second.report.class_counts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key,label\nK,eleven\n", "label 'eleven'; expected a class"),
        ("key,label\nK,10\n", "label '10'; expected a class"),
        ("key,label\nK,1\nK,2\n", "there twice"),
        ("key,name\nK,1\n", "no column 'label'"),
        ("key,label\nnone,1\n", "no image 'none'"),
    ],
)
def test_corrections_that_make_no_sense(glyphs: Index, few_digits: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "fix.csv").write_text(text.replace("K", glyphs.keys([0])[0]))
    with pytest.raises(DataError, match=said):
        select(glyphs, few_digits, corrections=plada.Corrections(relabel=tmp_path / "fix.csv"))


def test_pictures_of_a_selection(glyphs: Index, few_digits: Path, tmp_path: Path) -> None:
    made = select(glyphs, few_digits)
    for write, name in ((made.contact_sheet, "s"), (made.percentiles, "p"), (made.histogram, "h")):
        assert write(tmp_path / f"{name}.png") == tmp_path / f"{name}.png"
    for name in ("s", "p", "h"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width > 300
            assert len(set(np.asarray(image.convert("L")).ravel().tolist())) > 20


def test_the_histogram_before(glyphs: Index, few_digits: Path) -> None:
    report = select(glyphs, few_digits).report
    assert sum(report.reference_counts.values()) == 1500
    assert sum(report.class_counts.values()) == report.images


def test_a_table_of_logits_as_teacher(glyphs: Index, few_digits: Path, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(1500, 10)).astype(np.float32)
    np.save(tmp_path / "t.npy", logits)
    made = select(glyphs, few_digits, teacher=f"table:{tmp_path / 't.npy'}")
    assert made.payload.labels.tolist() == logits[made.payload.positions].argmax(axis=1).tolist()
    assert made.report.teacher.accuracy is None


def test_a_function_as_teacher_and_a_vote(
    glyphs: Index, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_teacher.py").write_text(
        "import numpy as np\ndef say(images):\n    return [[float(np.asarray(i).mean() > 9 * c) for c in range(10)] for i in images]\n"
    )
    monkeypatch.chdir(tmp_path)
    made = select(glyphs, few_digits, teacher="linear,own_teacher:say")
    assert made.report.teacher.kind == "linear+own_teacher:say"
    assert [member.kind for member in made.report.teacher.members] == ["linear", "own_teacher:say"]


def test_nan_logits_of_a_users_teacher(
    glyphs: Index, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nan_teacher.py").write_text("def say(images):\n    return [[float('nan')] * 10 for _ in images]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="not finite"):
        select(glyphs, few_digits, teacher="nan_teacher:say")


def noisy_target(root: Path, counts: dict[str, int]) -> Path:
    """A target whose images have nothing to do with their classes."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name, count in counts.items():
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(
                    root / part / name / f"{number}.png"
                )
    return root


def test_a_teacher_at_chance_is_refused_unless_forced(glyphs: Index, tmp_path: Path) -> None:
    target = noisy_target(tmp_path / "noise", {"a": 20, "b": 20})
    with pytest.raises(DataError, match=r"chance is 50.0%.*--force"):
        select(glyphs, target)
    assert select(glyphs, target, teacher=plada.TeacherSpec(force=True)).report.images > 0


def test_broken_target_images_are_left_out_and_counted(glyphs: Index, target_folder: Path) -> None:
    (target_folder / "train" / "dim" / "0.png").write_bytes(b"broken")
    assert select(glyphs, target_folder).report.left_out == 1


def test_a_class_whose_images_are_all_broken(glyphs: Index, target_folder: Path) -> None:
    for path in (target_folder / "train" / "dim").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="class 'dim' has no readable training image"):
        select(glyphs, target_folder)


def test_a_class_without_training_image(glyphs: Index, target_folder: Path) -> None:
    shutil.rmtree(target_folder / "train" / "dim")
    (target_folder / "train" / "dim").mkdir()
    with pytest.raises(DataError, match="dim"):
        select(glyphs, target_folder)


def test_a_class_of_one_image_is_said(glyphs: Index, target_folder: Path) -> None:
    Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) * 10, (24, 1))).save(target_folder / "train" / "x.png")
    (target_folder / "train" / "ramp").mkdir()
    (target_folder / "train" / "x.png").rename(target_folder / "train" / "ramp" / "0.png")
    report = select(glyphs, target_folder).report
    assert "a single image of ramp" in report.target_note


def test_a_target_of_one_image_a_class(glyphs: Index, tmp_path: Path) -> None:
    for name, size in (("small", 6), ("large", 22), ("middle", 14)):
        pixels = np.zeros((24, 24), np.uint8)
        pixels[1 : size + 1, 1 : size + 1] = 255
        (tmp_path / "one" / "train" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "one" / "train" / name / "0.png")
    report = select(glyphs, tmp_path / "one").report
    assert report.images > 2
    assert (report.teacher.validation_accuracy, report.forecast) == (None, None)
    assert "a single image of large, middle, small: it trains, nothing judges it" in report.target_note
    assert [trial.exact for trial in report.tried] == [True]


def test_class_names_that_differ_between_splits(glyphs: Index, target_folder: Path) -> None:
    (target_folder / "test" / "dim").rename(target_folder / "test" / "dark")
    with pytest.raises(DataError, match="dark"):
        select(glyphs, target_folder)


def test_a_class_that_no_image_is_given(glyphs: Index, few_digits: Path, tmp_path: Path) -> None:
    logits = np.zeros((1500, 10), np.float32)
    logits[np.arange(1500), np.arange(1500) % 9] = 5
    np.save(tmp_path / "t.npy", logits)
    report = select(glyphs, few_digits, teacher=f"table:{tmp_path / 't.npy'}").report
    assert report.empty_classes == ("9",)
    assert report.class_counts["9"] == 0
    assert report.bytes <= 400


def test_a_budget_below_the_minimum_says_what_is_needed(glyphs: Index, few_digits: Path) -> None:
    with pytest.raises(BudgetTooSmall) as caught:
        select(glyphs, few_digits, budget=30)
    assert select(glyphs, few_digits, budget=caught.value.least).report.images >= 10


def test_unknown_rules_name_the_nearest(glyphs: Index, few_digits: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'herd-even'"):
        select(glyphs, few_digits, rule="herd-evn")


def test_embeddings_of_a_target_are_kept_by_content(glyphs: Index, target_folder: Path) -> None:
    select(glyphs, target_folder)
    kept = sorted((glyphs.home / "cache" / "embeddings").glob("*.npz"))
    stamps = {path: path.stat().st_mtime_ns for path in kept}
    first = select(glyphs, target_folder)
    assert {path: path.stat().st_mtime_ns for path in kept} == stamps
    whole = {path: path.read_bytes() for path in kept}
    for path in kept:  # a cut file is made again
        path.write_bytes(whole[path][:100])
    again = select(glyphs, target_folder)
    for path, data in whole.items():  # the home is shared: other tests' files are as they were
        path.write_bytes(data)
    assert np.array_equal(first.payload.positions, again.payload.positions)


@pytest.mark.parametrize("how", ["append", "restart"])
def test_a_select_that_overlaps_a_new_build_ends_right(tmp_path: Path, target_folder: Path, how: str) -> None:
    plada.index("glyphs:count=300", name="g", home=tmp_path)
    alone = plada.select("g", target=target_folder, budget=400, rule="balanced", home=tmp_path)
    said: list[Progress] = []

    def overlapping(progress: Progress) -> None:
        if not said:
            said.append(progress)
            plada.index("glyphs:count=340", name="g", home=tmp_path, append=how == "append", restart=how == "restart")

    made = plada.select("g", target=target_folder, budget=400, rule="balanced", home=tmp_path, report=overlapping)
    assert said and len(plada.open_index("g", home=tmp_path)) == 340
    assert made.table == alone.table
    assert made.payload.content_id == alone.payload.content_id


def test_the_table_can_be_read_and_given_back(glyphs: Index, few_digits: Path, tmp_path: Path) -> None:
    made = select(glyphs, few_digits)
    made.write_table(tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.column_names == ["position", "key", "label", "score", "class_rank"]
    pq.write_table(table.set_column(2, "label", pa.array([3] * len(table))), tmp_path / "all3.parquet")
    changed = select(glyphs, few_digits, corrections=plada.Corrections(relabel=tmp_path / "all3.parquet"))
    assert changed.report.reference_counts["3"] >= len(table)
    assert made.report.reference_counts["3"] < len(table)


def test_the_table_of_a_target_whose_classes_are_numbers_comes_back(glyphs: Index, tmp_path: Path) -> None:
    names = tuple(sorted(map(str, range(12))))  # '10' and '11' stand before '2'
    logits = np.random.default_rng(0).normal(size=(1500, 12)).astype(np.float32)
    np.save(tmp_path / "t.npy", logits)

    def chosen(**options: Any) -> plada.Selection:
        return plada.select(
            glyphs, target=f"classes:{','.join(names)}", teacher=f"table:{tmp_path / 't.npy'}", budget=300, home=glyphs.home,
            **options,
        )  # fmt: skip

    made = chosen()
    made.write_table(tmp_path / "t.parquet")
    again = chosen(corrections=plada.Corrections(relabel=tmp_path / "t.parquet"))
    assert again.report.relabel_note == ""
    assert again.report.reference_counts == made.report.reference_counts
    rows = dict(zip(again.payload.positions.tolist(), again.payload.labels.tolist(), strict=True))
    for position, label in zip(made.payload.positions.tolist(), made.payload.labels.tolist(), strict=True):
        assert rows.get(position, label) == label


def test_a_target_of_names_alone(glyphs: Index, tmp_path: Path) -> None:
    logits = np.zeros((1500, 2), np.float32)
    logits[np.arange(1500), np.arange(1500) % 2] = 3 + np.arange(1500) / 1500
    np.save(tmp_path / "t.npy", logits)
    made = plada.select(
        glyphs, target="classes:cat,dog", teacher=f"table:{tmp_path / 't.npy'}", budget=300, home=glyphs.home
    )
    assert made.report.rule == "spread"
    assert made.payload.classes == ("cat", "dog")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    again = plada.select(
        glyphs, target=f"classes:{tmp_path / 'names.txt'}", teacher=f"table:{tmp_path / 't.npy'}", budget=300,
        home=glyphs.home,
    )  # fmt: skip
    assert np.array_equal(made.payload.positions, again.payload.positions)
    with pytest.raises(DataError, match="has no training images"):
        plada.select(glyphs, target="classes:cat,dog", budget=300, home=glyphs.home)
    with pytest.raises(RequestError, match="two or more different class names"):
        plada.select(glyphs, target="classes:cat,cat", budget=300, home=glyphs.home)


def test_near_duplicates_can_be_left_out(glyphs: Index, few_digits: Path) -> None:
    made = select(glyphs, few_digits, corrections=plada.Corrections(distinct=0.9))
    vectors = glyphs.vectors(made.payload.positions).astype(np.float32)
    near = vectors @ vectors.T - 2 * np.eye(len(vectors))
    same = made.payload.labels[:, None] == made.payload.labels
    assert near[same].max() <= 0.9 + 1e-3
    assert made.report.copies > 0 == select(glyphs, few_digits).report.copies
    with pytest.raises(RequestError, match="cosine of 2"):
        select(glyphs, few_digits, corrections=plada.Corrections(distinct=2.0))


def test_a_selection_says_in_a_line_what_it_is(glyphs: Index, few_digits: Path, tmp_path: Path) -> None:
    made = select(glyphs, few_digits, out=tmp_path / "x.plada")
    assert repr(made) == (
        f"<Selection {few_digits.name} from {glyphs.name}: balanced: {made.report.images} images, {made.report.bytes} of 400 bytes, "
        f"saved as {tmp_path / 'x.plada'}>"
    )


def test_the_table_says_what_was_asked_for_by_the_names_of_options(
    glyphs: Index, few_digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "none.txt").write_text("")
    made = select(
        glyphs,
        few_digits,
        teacher=plada.TeacherSpec(names=["linear"], force=True),
        delivery=plada.Delivery(client_has="nothing", serial=2),
        corrections=plada.Corrections(drop_leaks=True, exclude=tmp_path / "none.txt"),
        recipe={"epochs": 3},
    )
    assert made.options == {
        "index": glyphs.name, "target": str(few_digits), "budget": 400, "rule": "balanced", "teacher": ["linear"], "force": True,
        "client_has": "nothing", "serial": 2, "recipe": {"epochs": 3}, "exclude": str(tmp_path / "none.txt"),
        "drop_leaks": True, "home": str(glyphs.home),
    }  # fmt: skip
