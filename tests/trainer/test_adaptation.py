"""Unlabelled pictures of the client's own correct the class prior, where they surely differ, and nowhere else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.common.arrays import F32, I64
from plada.common.statistics import chi_square_p, kolmogorov_p
from plada.errors import DataError, RequestError
from plada.labeler.calibration import fit_calibration
from plada.payload.calibration import NOTE, Calibration
from plada.retrieval.index import Index
from plada.trainer.adaptation import LEVEL, estimate_shares, same_kind_p
from plada.trainer.linear_student import LinearStudent
from plada.trainer.model import load_model
from plada.trainer.model_file import read_card, save_model
from tests.trainer.test_client import QUICK, SMALL, payload_of

CLASSES = 5
EVEN, UNEVEN = np.full(CLASSES, 1 / CLASSES), np.array([4, 4, 1, 1, 1]) / 11


def drawn(images: int, shares: np.ndarray, seed: int, *, bias: float = 0.0) -> tuple[F32, I64]:
    """Logits of a student that is right on about three in four images, too sure of itself, and leans to the first class."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, images, p=shares)
    logits = 1.6 * np.eye(CLASSES)[labels] + rng.standard_normal((images, CLASSES))
    return (2.5 * (1.6 * logits + bias * np.eye(CLASSES)[0])).astype(np.float32), labels


def right(logits: F32, labels: I64) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def corrected(logits: F32, calibration: Calibration) -> np.ndarray:
    shares, p = estimate_shares(logits, calibration)
    offset = np.log(shares / calibration.shares) if p < LEVEL else 0.0
    return logits / calibration.temperature + calibration.bias + offset


def test_uneven_shares_are_found_and_pay() -> None:
    calibration = fit_calibration(*drawn(600, EVEN, 0))
    gains = []
    for seed in range(1, 6):
        logits, labels = drawn(400, UNEVEN, seed)
        shares, p = estimate_shares(logits, calibration)
        assert p < LEVEL
        assert np.abs(shares - np.bincount(labels, minlength=CLASSES) / 400).max() < 0.08
        gains.append(right(corrected(logits, calibration), labels) - right(logits, labels))
    assert np.mean(gains) > 0.02


def test_expected_shares_change_next_to_nothing() -> None:
    """The test is wrong about as often as it says."""
    for images, bias in ((200, 0.0), (100, 1.0)):
        values = []
        for seed in range(20):
            calibration = fit_calibration(*drawn(images, EVEN, 1000 + seed, bias=bias))
            values += [estimate_shares(drawn(200, EVEN, each, bias=bias)[0], calibration)[1] for each in range(5)]
        assert np.mean([p < LEVEL for p in values]) <= 0.1


def test_a_bias_is_no_shift() -> None:
    """A student that leans to one class would make EM take that class for a frequent one; calibrated, it is put right."""
    calibration = fit_calibration(*drawn(600, EVEN, 0, bias=1.0))
    logits, labels = drawn(400, EVEN, 1, bias=1.0)
    assert calibration.bias[0] < -0.5
    assert estimate_shares(logits, calibration)[1] >= LEVEL
    assert right(corrected(logits, calibration), labels) > right(logits, labels)
    blind = replace(calibration, bias=np.zeros(CLASSES))
    shares, p = estimate_shares(logits, blind)
    assert p < LEVEL
    assert shares[0] > 0.3


def test_one_picture_proves_nothing() -> None:
    calibration = fit_calibration(*drawn(600, EVEN, 0))
    for seed in range(20):
        assert estimate_shares(drawn(1, UNEVEN, seed)[0], calibration)[1] >= LEVEL


def test_pictures_of_another_kind_are_told() -> None:
    calibration = fit_calibration(*drawn(600, EVEN, 0), spreads=True)
    same, other = drawn(300, UNEVEN, 1)[0], 0.6 * drawn(300, UNEVEN, 2)[0]
    like, unlike = same_kind_p(same, calibration), same_kind_p(other.astype(np.float32), calibration)
    assert like is not None
    assert unlike is not None
    assert unlike < 1e-6 < LEVEL < like
    assert same_kind_p(same, fit_calibration(*drawn(600, EVEN, 0))) is None


def test_probabilities_of_tests_are_the_textbooks() -> None:
    special = pytest.importorskip("scipy.special")
    for degrees in (1, 2, 3, 10, 41, 1000):
        for value in (0.0, 0.3, 2.0, 30.0, 900.0, 2000.0):
            assert chi_square_p(value, degrees) == pytest.approx(special.chdtrc(degrees, value), rel=1e-6, abs=1e-200)
    for distance in (0.001, 0.02, 0.05, 0.2, 0.9):
        root = np.sqrt(200)
        wanted = special.kolmogorov((root + 0.12 + 0.11 / root) * distance)
        assert kolmogorov_p(distance, 200) == pytest.approx(wanted, abs=1e-9)


@pytest.fixture
def student(glyphs: Index, small_payload: Path, glyph_home: Path, tmp_path: Path) -> Path:
    """A linear student of digits, whose calibration is said to be its payload's."""
    path = tmp_path / "student.safetensors"
    plada.train(small_payload, reference="glyphs:count=1500", student="linear", out=path, home=glyph_home)
    loaded = load_model(path).student
    assert isinstance(loaded, LinearStudent)
    even = Calibration(temperature=1.0, bias=np.zeros(10), shares=np.full(10, 0.1), images=500)
    replace(loaded, calibration=even).save(path)
    return path


def digits_of(few_digits: Path, folder: Path, counts: dict[str, int]) -> Path:
    folder.mkdir()
    for name, count in counts.items():
        for number, path in enumerate(sorted((few_digits / "train" / name).iterdir())[:count]):
            (folder / f"{name}-{number}{path.suffix}").write_bytes(path.read_bytes())
    return folder


def test_answers_follow_the_pictures(student: Path, few_digits: Path, tmp_path: Path) -> None:
    pool = digits_of(few_digits, tmp_path / "pool", {"0": 12, "1": 12, "2": 1})
    (pool / "broken.png").write_bytes(b"broken")
    plain = plada.predict(pool, model=student)
    assert plain.adaptation is None
    found = plada.predict(pool, model=student, adapt=pool)
    said = found.adaptation
    assert said is not None
    assert said.used
    assert (said.images, said.unreadable, said.source, said.note) == (25, 1, "payload", "")
    assert said.shares[[0, 1]].min() > 0.2
    zero = [dict(zip(*zip(*each.best, strict=True), strict=True)).get("0", 0.0) for each in (plain[1], found[1])]
    assert zero[1] > zero[0]
    done = CliRunner().invoke(
        app, ["predict", str(pool / "0-0.png"), "--model", str(student), "--adapt", str(pool), "--json"]
    )
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["adaptation"]["used"] is True
    assert summary["adaptation"]["shares"]["0"] == pytest.approx(said.shares[0], abs=1e-6)
    done = CliRunner().invoke(app, ["predict", str(pool / "0-0.png"), "--model", str(student), "--adapt", str(pool)])
    assert "25 pictures, 1 unreadable; shares " in done.output
    assert "answers are corrected by them" in done.output


def test_evaluating_says_the_shares(student: Path, few_digits: Path) -> None:
    found = plada.evaluate(student, target=few_digits, adapt=few_digits / "test")
    assert found.adaptation is not None
    assert not found.adaptation.used
    assert found.to_dict()["adaptation"]["note"].startswith("the shares are not surely other than expected")
    done = CliRunner().invoke(
        app, ["evaluate", str(student), "--target", str(few_digits), "--adapt", str(few_digits / "test")]
    )
    assert done.exit_code == 0, done.output
    assert "answers are calibrated, and not corrected by shares" in done.output


def test_bad_pools(student: Path, few_digits: Path, target_folder: Path, tmp_path: Path) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.png").write_bytes(b"broken")
    picture = few_digits / "test" / "0"
    for pool, error, words in (
        (tmp_path / "none", RequestError, "no such folder"),
        (empty, RequestError, "no picture in it"),
        (next(picture.iterdir()), RequestError, "no such folder"),
        (broken, DataError, "none of its 1 pictures can be read"),
    ):
        with pytest.raises(error, match=words):
            plada.predict(picture, model=student, adapt=pool)
        with pytest.raises(error, match=words):
            plada.evaluate(student, target=few_digits, adapt=pool)
    single = digits_of(few_digits, tmp_path / "single", {"3": 1})
    said = plada.predict(picture, model=student, adapt=single).adaptation
    assert said is not None
    assert (said.images, said.used, said.calibrated) == (1, False, True)
    with pytest.raises(DataError, match="unknown bright"):  # a model of other classes
        plada.evaluate(student, target=target_folder, adapt=single)


def test_a_network_without_a_calibration_answers_as_before(pictures: Path, tmp_path: Path) -> None:
    positions = np.arange(0, 24, 2)
    sent = payload_of(pictures, positions, positions // 2 % 2, ("bright", "dim"))
    out = tmp_path / "m.safetensors"
    assert plada.train(sent, reference=pictures, student=SMALL, recipe=QUICK, out=out).calibration is None
    plain, found = (plada.predict(pictures, model=out, adapt=adapt) for adapt in (None, pictures))
    assert [each.best for each in plain] == [each.best for each in found]
    assert found.adaptation is not None
    assert (found.adaptation.source, found.adaptation.calibrated) == (None, False)
    assert "the model has no calibration" in found.adaptation.note


def test_pictures_unlike_the_labelled_set_change_nothing(
    glyphs: Index, small_payload: Path, glyph_home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    done = plada.train(small_payload, reference="glyphs:count=1500", student="linear", out=path, home=glyph_home)
    assert done.calibration == "labelled set"
    noise = tmp_path / "noise"
    noise.mkdir()
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(noise / f"{number}.png")
    model = load_model(path)
    adapted = model.adapt(noise)
    assert adapted.adaptation is not None
    assert "of another kind" in adapted.adaptation.note
    assert not adapted.adaptation.calibrated
    pixels = np.zeros((1, model.view.size, model.view.size, 3), np.uint8)
    np.testing.assert_array_equal(adapted.logits(pixels), model.logits(pixels))


def test_a_payloads_calibration_is_for_its_encoder_alone(glyphs: Index, small_payload: Path, glyph_home: Path) -> None:
    sent = plada.read_payload(small_payload, home=glyph_home)
    calibration = Calibration(temperature=2.0, bias=np.zeros(10), shares=np.full(10, 0.1), images=70)
    for encoder, source in ((load_id(glyphs), "payload"), ("00000000", "labelled set")):
        noted = replace(sent, notes={**sent.notes, **replace(calibration, encoder=encoder).note()})
        done = plada.train(noted, reference="glyphs:count=1500", student="linear", home=glyph_home)
        assert done.calibration == source
    assert NOTE in noted.notes


def load_id(index: Index) -> str:
    return index.encoder().config.short_id()


def test_a_card_that_was_tampered_with(student: Path) -> None:
    loaded, card = load_model(student).student, read_card(student)
    assert isinstance(loaded, LinearStudent)
    import torch

    state = {name: torch.from_numpy(np.array(getattr(loaded.head, name))) for name in ("mean", "weight", "bias")}
    save_model(student, state, card | {"calibration": {"temperature": "hot"}})
    with pytest.raises(DataError, match="its card has no valid calibration"):
        load_model(student)
