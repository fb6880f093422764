"""Tables of logits are bound to the images, and the encoder, that they say they were made for; so is all that is kept."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import plada
from plada.common.text import split_names
from plada.errors import DataError, ReferenceMismatch, RequestError
from plada.labeler.custom_teachers import CLAIMS
from plada.labeler.embedding_cache import load_embeddings, save_embeddings
from plada.labeler.teachers import _is_table, claims_of
from plada.retrieval.index import Index

CLASSES = tuple(str(digit) for digit in range(10))
LOGITS = np.random.default_rng(0).normal(size=(1500, 10)).astype(np.float32)


def select(index: Index, path: Path) -> plada.Payload:
    return plada.select(
        index, target="digits", teacher=f"table:{path}", budget=400, rule="balanced", home=index.home
    ).payload


@pytest.mark.parametrize("embedded", [False, True])
def test_a_written_table_is_a_teacher(glyphs: Index, tmp_path: Path, embedded: bool) -> None:
    path = plada.write_logits(glyphs, LOGITS, classes=CLASSES, out=tmp_path / "t.parquet", embedded=embedded)
    said = pq.read_schema(path).metadata
    assert {name for name in CLAIMS if name.encode() in said} == set(CLAIMS if embedded else CLAIMS[:2])
    made = select(glyphs, path)
    assert made.labels.tolist() == LOGITS[made.positions].argmax(axis=1).tolist()
    first = path.read_bytes()
    plada.write_logits("glyphs", LOGITS, classes=CLASSES, out=path, embedded=embedded, home=glyphs.home)
    assert path.read_bytes() == first


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_table_for_something_else_is_refused_by_name(glyphs: Index, tmp_path: Path, claim: str) -> None:
    path = plada.write_logits(glyphs, LOGITS, classes=CLASSES, out=tmp_path / "t.parquet", embedded=True)
    table = pq.read_table(path)
    other = {**table.schema.metadata, claim.encode(): b"something else"}
    pq.write_table(table.replace_schema_metadata(other), path)
    with pytest.raises(ReferenceMismatch, match=f"{claim} something else, the index has") as caught:
        select(glyphs, path)
    assert (caught.value.wanted, caught.value.found) == ("something else", claims_of(glyphs, embedded=True)[claim])
    assert ("another encoder" in str(caught.value)) == (claim == "plada.encoder")


def test_a_table_of_another_index_is_refused(glyphs: Index, tmp_path: Path) -> None:
    """As many images and the same classes, so that nothing but what the table says tells them apart."""
    plada.index("glyphs:count=1500,seed=7", name="other", home=tmp_path / "home")
    other = plada.open_index("other", home=tmp_path / "home")
    assert len(other) == len(glyphs)
    path = plada.write_logits(other, LOGITS, classes=CLASSES, out=tmp_path / "t.parquet")
    with pytest.raises(ReferenceMismatch, match="for other images"):
        select(glyphs, path)
    plain = pq.read_table(path).replace_schema_metadata(None)  # a table that claims nothing is believed
    pq.write_table(plain, path)
    assert len(select(glyphs, path).positions)


def test_a_table_from_embeddings_of_another_encoder_is_refused(glyphs: Index, tmp_path: Path) -> None:
    """The same images under another encoder: logits of pictures are good for both, logits of embeddings are not."""
    config = {**glyphs.info["encoder"], "digest": "0" * 64}
    other = Index(glyphs.folder, glyphs.home, {**glyphs.info, "encoder": config})
    path = plada.write_logits(other, LOGITS, classes=CLASSES, out=tmp_path / "e.parquet", embedded=True)
    with pytest.raises(
        ReferenceMismatch, match=r"another encoder \(plada.encoder gradients [0-9a-f]{16}, the index has"
    ):
        select(glyphs, path)
    assert len(select(glyphs, plada.write_logits(other, LOGITS, classes=CLASSES, out=path)).positions)


def test_tables_that_cannot_be_written(glyphs: Index, tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    with pytest.raises(DataError, match=r"expected \(1500, 10\)"):
        plada.write_logits(glyphs, LOGITS[:5], classes=CLASSES, out=out)
    with pytest.raises(DataError, match="not finite"):
        plada.write_logits(glyphs, np.where(LOGITS > 3, np.nan, LOGITS), classes=CLASSES, out=out)
    with pytest.raises(RequestError, match="class 'key'"):
        plada.write_logits(glyphs, LOGITS, classes=(*CLASSES[:9], "key"), out=out)
    with pytest.raises(RequestError, match="class '3'"):
        plada.write_logits(glyphs, LOGITS, classes=(*CLASSES[:9], "3"), out=out)
    assert not out.exists()


def test_a_table_by_key_is_bound_too(glyphs: Index, tmp_path: Path) -> None:
    keys = pa.array(glyphs.keys(np.arange(1500)))
    columns = {"key": keys, **{name: LOGITS[:, at] for at, name in enumerate(CLASSES)}}
    table = pa.table(columns).take(pa.array(np.random.default_rng(1).permutation(1500)))
    pq.write_table(table.replace_schema_metadata(claims_of(glyphs, embedded=True)), tmp_path / "t.parquet")
    made = select(glyphs, tmp_path / "t.parquet")
    assert made.labels.tolist() == LOGITS[made.positions].argmax(axis=1).tolist()
    pq.write_table(table.replace_schema_metadata({"plada.content_id": "00"}), tmp_path / "t.parquet")
    with pytest.raises(ReferenceMismatch, match=r"plada\.content_id 00"):
        select(glyphs, tmp_path / "t.parquet")


def test_kept_embeddings_of_another_encoder_are_made_again(tmp_path: Path) -> None:
    vectors, readable = np.ones((3, 4), np.float32), np.array([True, False, True, True])
    save_embeddings(tmp_path / "a.npz", "mine", vectors, readable)
    assert load_embeddings(tmp_path / "a.npz", "mine", images=4, dimension=4) is not None
    assert load_embeddings(tmp_path / "a.npz", "another's", images=4, dimension=4) is None
    assert load_embeddings(tmp_path / "a.npz", "mine", images=4, dimension=5) is None
    assert load_embeddings(tmp_path / "a.npz", "mine", images=5, dimension=4) is None


def test_a_kept_teacher_that_is_another_one_is_trained_again(
    glyphs: Index, target_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept network lies under the hash of all that made it and says it inside: renamed, it is not taken."""
    from plada.networks.finetune import finetune
    from plada.networks.loop import fit
    from plada.networks.network import NetworkSpec
    from plada.sources.registry import open_target

    trained: list[str] = []

    def counted(*arguments: object, **options: object) -> None:
        trained.append("once")
        fit(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("plada.networks.finetune.fit", counted)
    task = open_target(target_folder, tmp_path / "home")

    def train(seed: int) -> None:
        finetune(NetworkSpec(name="small_cnn"), task, recipe={"epochs": 1}, cache=tmp_path / "kept", seed=seed)

    train(0)
    train(0)
    assert len(trained) == 1
    (first,) = (tmp_path / "kept").iterdir()
    train(1)
    assert len(trained) == 2
    (second,) = set((tmp_path / "kept").iterdir()) - {first}
    shutil.copy(second, first)
    train(0)
    assert len(trained) == 3
    assert first.read_bytes() != second.read_bytes()


def test_a_table_with_commas_in_its_path_is_one_teacher(tmp_path: Path) -> None:
    table = tmp_path / "a,b,c.npy"
    table.touch()
    assert split_names(f"linear,table:{table}, zeroshot", _is_table) == ["linear", f"table:{table}", "zeroshot"]
    assert split_names(f"table:{table},linear", _is_table) == [f"table:{table}", "linear"]
