"""Making a pack from an index: principal components, the same bytes however the work is cut, zeros where nothing was read."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import threadpoolctl
from typer.testing import CliRunner

import plada
from plada.cli import app
from plada.errors import DataError, RequestError
from plada.indexer import pack as module
from plada.indexer.pack import feature_blocks, fit_projection
from plada.payload.pack import find_pack, read_pack
from plada.retrieval.index import Index

Block = tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]


def embeddings(images: int = 700, width: int = 96) -> npt.NDArray[np.float16]:
    """Unit vectors around a mean, of falling variance and with pairs of components that are nearly as strong."""
    rng = np.random.default_rng(0)
    spread = np.repeat(0.95 ** np.arange(width // 2), 2)
    plain = rng.normal(size=(images, width)) * spread @ np.linalg.qr(rng.normal(size=(width, width)))[0] + 1
    return np.asarray(plain / np.linalg.norm(plain, axis=1, keepdims=True), np.float16)


def scanned(vectors: npt.NDArray[np.float16], size: int = 256, without: tuple[int, ...] = ()) -> Iterator[Block]:
    """Blocks as Index.scan gives them, `size` rows each, less the images that could not be read."""
    for start in range(0, len(vectors), size):
        positions = np.setdiff1d(np.arange(start, min(start + size, len(vectors))), without)
        yield positions, vectors[positions]


def features(
    vectors: npt.NDArray[np.float16], dimensions: int = 16, size: int = 256, without: tuple[int, ...] = ()
) -> npt.NDArray[np.int8]:
    n = len(vectors)
    projection = fit_projection(scanned(vectors, size, without), images=n, dimensions=dimensions, scale=32)
    return np.concatenate(list(feature_blocks(scanned(vectors, size, without), projection, images=n)))


def test_features_are_principal_components_of_one_scale() -> None:
    vectors = embeddings()
    made = features(vectors)
    assert made.dtype == np.int8
    assert made.shape == (700, 16)
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    _, strengths, components = np.linalg.svd(centred, full_matrices=False)
    exact = centred @ components[:16].T / (strengths[0] / np.sqrt(700)) * 32
    exact *= np.sign((exact * made).sum(axis=0))
    assert np.abs(made - exact).max() < 1.5
    assert made.astype(float).std(axis=0)[0] == pytest.approx(32, abs=0.1)
    assert (np.diff(made.astype(float).std(axis=0)) < 0.2).all()
    projection = fit_projection(scanned(vectors), images=700, dimensions=16, scale=32)
    assert projection.variance == pytest.approx((strengths[:16] ** 2).sum() / (strengths**2).sum(), rel=1e-4)
    assert (projection.weights[np.abs(projection.weights).argmax(axis=0), np.arange(16)] > 0).all()


def test_threads_and_blocks_make_no_difference() -> None:
    vectors = embeddings(1500, 512)
    made = []
    for threads, size in ((1, 1500), (2, 1500), (2, 97)):
        with threadpoolctl.threadpool_limits(threads):
            made.append(features(vectors, 64, size))
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


def test_a_projection_is_exact_in_any_order_of_summing() -> None:
    vectors = embeddings()
    weights = fit_projection(scanned(vectors), images=700, dimensions=8, scale=32).weights
    order = np.random.default_rng(1).permutation(96)
    values = vectors.astype(np.float64)
    forward = np.cumsum(values[:, :, None] * weights, axis=1)[:, -1]
    shuffled = np.cumsum(values[:, order, None] * weights[order], axis=1)[:, -1]
    assert np.array_equal(forward, shuffled)
    assert np.array_equal(forward, values @ weights)


def test_unreadable_images_are_rows_of_zeros_wherever_they_are() -> None:
    vectors = embeddings(700)
    gone = (0, 1, *range(256, 512), 600, 698, 699)
    made = features(vectors, without=gone)
    assert len(made) == 700
    assert not made[list(gone)].any()
    kept = np.setdiff1d(np.arange(700), gone)
    assert made[kept].any(axis=1).all()
    fitted = fit_projection(scanned(vectors, without=gone), images=700, dimensions=16, scale=32)
    assert np.array_equal(made[kept], fitted.features(vectors[kept]))


def test_of_many_images_every_nth_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = embeddings(700)
    monkeypatch.setattr(module, "_SAMPLE", 300)
    sampled = fit_projection(scanned(vectors), images=700, dimensions=16, scale=32)
    monkeypatch.undo()
    every_third = fit_projection(scanned(vectors[::3]), images=234, dimensions=16, scale=32)
    assert np.array_equal(sampled.weights, every_third.weights)


def test_what_cannot_be_packed_is_said() -> None:
    with pytest.raises(RequestError, match="97 dimensions: this index has embeddings of 96"):
        features(embeddings(), 97)
    with pytest.raises(DataError, match="are equal"):
        features(np.repeat(embeddings(1), 300, axis=0))
    with pytest.raises(DataError, match="at least 2 readable images; 1 are"):
        features(embeddings(3), 1, without=(0, 2))


def test_far_out_values_are_clipped() -> None:
    vectors = embeddings(700)
    vectors[5] = -vectors[5]
    made = features(vectors)
    assert np.abs(made[5].astype(int)).max() == 127
    assert made.min() >= -127


def test_a_pack_of_an_index_is_made_sent_and_installed(glyphs: Index, tmp_path: Path, home: Path) -> None:
    made = plada.make_pack(glyphs, tmp_path / "glyphs.pack", dimensions=20)
    pack = read_pack(made.path, verify=True)
    assert (made.images, made.dimensions, made.bytes) == (1500, 20, 64 + 1500 * 20)
    assert Path(made.path).stat().st_size == made.bytes
    pack.check(key=bytes.fromhex(glyphs.info["key_id"]), images=len(glyphs))
    # Neighbours by features are neighbours by embeddings.
    near = np.argsort(((pack.features - pack.features[7].astype(float)) ** 2).sum(axis=1))[:10]
    assert len({*near.tolist()} & {hit.position for hit in glyphs.search("position:7", 10)[0]}) >= 5
    installed = plada.install_pack(made.path)
    assert installed.reference is None  # this home knows no images
    found = find_pack(home, pack.key_id[:8])
    assert found is not None
    assert np.array_equal(found.features, pack.features)
    with_images = plada.install_pack(made.path, home=shutil.copytree(glyphs.home, tmp_path / "client"))
    assert with_images.reference == "glyphs:count=1500"


def test_a_pack_is_written_with_the_index(home: Path, tmp_path: Path) -> None:
    made = plada.index("glyphs:count=300", name="g", pack=plada.PackSpec(out=tmp_path / "g.pack", dimensions=8))
    assert made.pack is not None
    assert (made.pack["path"], made.pack["dimensions"]) == (str(tmp_path / "g.pack"), 8)
    again = plada.index("glyphs:count=300", name="g", pack=True)
    assert again.pack is not None
    assert again.pack["dimensions"] == 64
    assert Path(again.pack["path"]).parent == home / "packs"


def test_the_commands(home: Path, tmp_path: Path) -> None:
    command = ["index", "glyphs:count=300", "--name", "g", "--quiet", "--json"]
    run = CliRunner().invoke
    plain = json.loads(run(app, command).stdout.splitlines()[-1])
    assert plain["pack"] is None
    packed = json.loads(run(app, [*command, "--pack", "--pack-dimensions", "8"]).stdout.splitlines()[-1])
    assert packed["reused"] == 300  # of an index that is there already
    assert {**packed["pack"], "variance": None} == {
        "path": str(home / "packs" / f"{packed['key_id']}-{packed['pack']['pack_id'][:16]}.pack"),
        "bytes": 64 + 300 * 8,
        "images": 300,
        "dimensions": 8,
        "key_id": packed["key_id"],
        "pack_id": packed["pack"]["pack_id"],
        "reference": "glyphs:count=300",
        "variance": None,
    }
    assert 0 < packed["pack"]["variance"] < 1
    assert [path.name for path in (home / "packs").iterdir()] == [Path(packed["pack"]["path"]).name]
    out = tmp_path / "to-send.pack"
    assert "to-send.pack" in run(app, [*command[:-1], "--pack-out", str(out), "--pack-dimensions", "8"]).stdout.replace(
        "\n", ""
    )
    assert out.read_bytes() == Path(packed["pack"]["path"]).read_bytes()
    there = run(app, ["install-pack", str(out), "--json"])
    assert json.loads(there.stdout)["path"] == packed["pack"]["path"]
    elsewhere = run(app, ["install-pack", str(out), "--home", str(tmp_path / "client")])
    assert elsewhere.exit_code == 0
    assert "no collection known here" in elsewhere.stderr
    out.write_bytes(out.read_bytes()[:-1])
    cut = run(app, ["install-pack", str(out), "--home", str(tmp_path / "other"), "--json"])
    assert cut.exit_code == 3
    assert json.loads(cut.stderr)["kind"] == "PayloadTruncated"
