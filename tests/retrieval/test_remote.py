"""An index at a URL serves as the same index in a folder does; what is missing, cut or out of reach is one line, without a
credential in it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import plada
from plada.common.progress import Progress
from plada.errors import DataError, PladaError, ReferenceMismatch, RequestError, ResourceError
from plada.retrieval.check import check_index
from plada.retrieval.index import Index
from tests.conftest import edit_json, table_folder
from tests.stores import ACCESS, BUCKET, SECRET, Store, Wire, no_aws, store
from tests.test_cli import refused, summary

REFUSAL = (
    b"<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.</Message><AWSAccessKeyId>THE-ACCESS-KEY"
    b"</AWSAccessKeyId></Error>"
)
FORBIDDEN = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    % len(REFUSAL)
    + REFUSAL
)


@pytest.fixture(scope="module")
def s3() -> Iterator[Store]:
    with store() as there, no_aws(there.environment()):
        yield there


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the index `g` of 1 500 glyphs, and its approximate index."""
    root = tmp_path_factory.mktemp("built")
    plada.index("glyphs:count=1500", name="g", home=root)
    plada.make_ann("g", home=root)
    return root


@pytest.fixture(scope="module")
def url(s3: Store, built: Path) -> str:
    return s3.put(built / "indexes" / "g", "indexes/g")


@pytest.fixture
def here(built: Path) -> Index:
    return plada.open_index("g", home=built)


def test_it_gives_what_the_folder_gives(url: str, here: Index, home: Path) -> None:
    there = plada.open_index(url)
    assert (len(there), there.name, there.place, there.at_url) == (1500, "g", url, True)
    assert url in repr(there)
    for one, other in zip(here.scan(), there.scan(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(np.concatenate(list(here.fingerprints())), np.concatenate(list(there.fingerprints())))
    np.testing.assert_array_equal(here.vectors([7, 3]), there.vectors([7, 3]))
    assert here.keys([1400]) == there.keys([1400])
    assert there.table().count_rows() == 1500
    assert plada.search("position:7", index=url, k=3) == plada.search("position:7", index=here, k=3)
    with pytest.raises(RequestError, match="position 1500: index 'g' holds 0 to 1499"):
        there.vectors([1500])


def test_a_part_of_it_gives_the_blocks_of_the_whole(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plada.retrieval.table._TASK", 1)
    index = plada.open_index(url)
    assert [(each.start, each.stop) for each in index.rows.ranges()] == [(0, 1024), (1024, 1500)]
    parts = [block for some in index.rows.ranges() for block in index.rows.embeddings(rows=some)]
    for (one, vectors), (other, same) in zip(parts, index.scan(), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(vectors, same)


def test_the_url_of_a_folder(built: Path) -> None:
    folder = built / "indexes" / "g"
    assert plada.open_index(folder.as_uri()).folder == folder


def test_its_approximate_index_is_copied_once_and_compared(url: str, here: Index, home: Path, s3: Store) -> None:
    seen: list[Progress] = []
    there = plada.open_index(url, report=seen.append)
    assert there.has_ann()
    vectors = here.vectors([5, 900]).astype(np.float32)
    assert there.search(vectors, k=4, exact=False) == here.search(vectors, k=4, exact=False)
    assert {each.stage for each in seen} >= {"copy index.faiss, MB", "copy vectors.f16, MB"}
    (folder,) = (home / "cache" / "indexes").glob("*/ann-*")
    assert {path.name for path in folder.iterdir()} == {"ann.json", "index.faiss", "vectors.f16"}

    with Wire(s3.port) as wire, no_aws(s3.environment(wire.own_port)):
        again = plada.open_index(url)
        again.ann()
        assert wire.passed < 100_000  # the two small files alone
    (folder / "vectors.f16").write_bytes(b"0" * (folder / "vectors.f16").stat().st_size)  # damaged here: copied anew
    assert plada.open_index(url).search(vectors, k=4, exact=False) == here.search(vectors, k=4, exact=False)


def test_a_copy_that_was_stopped_goes_on(url: str, home: Path, monkeypatch: pytest.MonkeyPatch, s3: Store) -> None:
    monkeypatch.setattr("plada.retrieval.remote._PIECE", 50_000)
    monkeypatch.setattr("plada.retrieval.remote._AT_ONCE", 1)
    options = {"read_timeout": "1s", "client_max_retries": "0", "client_retry_timeout": "1"}
    with Wire(s3.port, limit=400_000) as wire, no_aws(s3.environment(wire.own_port)):
        index = plada.open_index(url, storage_options=options)
        with pytest.raises(
            ResourceError, match=r"the store at 127.0.0.1:\d+ does not answer, or stopped in the middle"
        ):
            index.ann()
    (part,) = (home / "cache" / "indexes").glob("*/ann-*/*.part")
    kept = part.stat().st_size
    assert kept
    with Wire(s3.port) as wire, no_aws(s3.environment(wire.own_port)):
        plada.open_index(url).ann()
        whole = sum(path.stat().st_size for path in part.parent.iterdir())
        assert wire.passed < whole - kept // 50_000 * 50_000 + 200_000
    assert not part.exists()


def test_select_chooses_the_same_and_needs_no_manifest_here(
    url: str, here: Index, built: Path, home: Path, few_digits: Path, tmp_path: Path
) -> None:
    choice = {"target": few_digits, "budget": 300, "rule": "herd-even"}
    plada.select(here, out=tmp_path / "here.plada", home=built, **choice)  # type: ignore[arg-type]
    seen: list[Progress] = []
    plada.select(url, out=tmp_path / "there.plada", report=seen.append, **choice)  # type: ignore[arg-type]
    assert (tmp_path / "there.plada").read_bytes() == (tmp_path / "here.plada").read_bytes()
    assert "manifest" in {each.stage for each in seen}
    assert "hash" not in {each.stage for each in seen}  # no image was read for its hash
    (kept,) = (home / "references").glob("*/manifest.parquet")
    (own,) = (built / "references").glob("*/manifest.parquet")
    assert kept.read_bytes() == own.read_bytes()


def test_check_and_search_by_the_command(url: str) -> None:
    assert summary("search", "position:3", "--index", url, "-k", "2")["hits"][0]["position"] == 3
    found = summary("index", url, "--check")
    assert (found["path"], found["ok"]) == (url, True)
    assert {"rows", "shards", "ann recall"} <= {item["what"] for item in found["items"]}


def test_nothing_is_written_to_a_url(url: str) -> None:
    with pytest.raises(RequestError, match=r"an index is built on a disk, not at a URL.* copy its folder"):
        plada.index("glyphs:count=20", name="s3://bucket/indexes/new")
    with pytest.raises(RequestError, match="an approximate index is built beside a table on a disk"):
        plada.make_ann(url)
    for home in ("s3://bucket/home", Path("s3://bucket/home")):
        with pytest.raises(RequestError, match="expected a folder on a disk, not a URL"):
            plada.index("glyphs:count=20", home=home)


# What is wrong with it


def said(err: pytest.ExceptionInfo[PladaError]) -> str:
    """The message: one line, without a credential."""
    text = str(err.value)
    assert "\n" not in text
    assert SECRET not in text
    assert ACCESS not in text
    return text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (f"s3://{BUCKET}/indexes/nothing", "no index.json is there, so no finished index. Mend"),
        (f"s3://{BUCKET}/indexes", r"no index.json is there, so no finished index; the folders there are (.*, )?g[,.]"),
        ("s3://no-such-bucket/indexes/g", "there is no such bucket"),
        (
            "ftp://host/indexes/g",
            "an index is read from s3://, gs://, az://, abfss://, oss://, file://, or from a folder",
        ),
        ("https://host/indexes/g", "an index is read from s3://"),
        ("s3://", "an index is read from s3://"),
        (f"s3://{ACCESS}:{SECRET}@bucket/indexes/g", r"^s3://bucket/indexes/g: the URL of an index has no user"),
        (f"az://box/indexes/g?sig={SECRET}", r"^az://box/indexes/g: the URL of an index has no user"),
    ],
)
def test_what_is_no_index(s3: Store, place: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as err:
        plada.open_index(place)
    said(err)


def test_a_store_that_does_not_answer(url: str, s3: Store) -> None:
    with no_aws(s3.environment(1)):
        with pytest.raises(ResourceError, match=r"the store at 127.0.0.1:\d+ does not answer") as err:
            plada.open_index(url, storage_options={"client_max_retries": "0"})
        said(err)
        assert "run the same command again" in refused(7, "ResourceError", "search", "position:3", "--index", url)


def test_http_must_be_allowed(url: str, s3: Store) -> None:
    settings = s3.environment()
    del settings["AWS_ALLOW_HTTP"]
    with no_aws(settings), pytest.raises(RequestError, match="Set AWS_ENDPOINT, and AWS_ALLOW_HTTP=true") as err:
        plada.open_index(url)
    said(err)


def test_credentials_that_are_refused(url: str, s3: Store) -> None:
    with Wire(s3.port, answer=FORBIDDEN) as wire:
        settings = s3.environment(wire.own_port)
        with no_aws(settings), pytest.raises(RequestError, match=r"access is refused \(InvalidAccessKeyId\)") as err:
            plada.open_index(url)
    said(err)


@pytest.mark.parametrize("hang", [False, True])
def test_a_network_that_stops_in_the_middle(url: str, s3: Store, hang: bool) -> None:
    options = {"read_timeout": "1s", "client_max_retries": "0", "client_retry_timeout": "1"}
    with Wire(s3.port, limit=300_000, hang=hang) as wire, no_aws(s3.environment(wire.own_port)):
        index = plada.open_index(url, storage_options=options)
        with pytest.raises(ResourceError, match=r"or stopped in the middle.* run the same command again") as err:
            list(index.scan())
        said(err)
        with pytest.raises(ResourceError, match=r"the store at 127.0.0.1:\d+ does not answer"):
            check_index(index)


@pytest.mark.parametrize(
    "what", ["a data file", "half a data file", "the version", "the table", "a digest", "ann", "half of ann"]
)
def test_a_partial_copy(built: Path, s3: Store, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(built / "indexes" / "g", folder)
    data = sorted((table_folder(folder) / "data").iterdir())
    match what:
        case "a data file":
            data[0].unlink()
        case "half a data file":
            data[0].write_bytes(data[0].read_bytes()[: data[0].stat().st_size // 2])
        case "the version":
            shutil.rmtree(table_folder(folder) / "_versions")
        case "the table":
            shutil.rmtree(table_folder(folder))
        case "a digest":
            shards = json.loads((folder / "index.json").read_text())["shards"]
            shards["columns"]["vector"][0] = "0" * 32
            edit_json(folder / "index.json", shards=shards)
        case "ann":
            (folder / "ann" / "vectors.f16").unlink()
        case "half of ann":
            path = folder / "ann" / "vectors.f16"
            path.write_bytes(path.read_bytes()[:1000])
    place = s3.put(folder, f"indexes/partial {what}".replace(" ", "-"))
    index = plada.open_index(place)
    with pytest.raises(DataError, match="Copy the folder of the index again") as err:
        index.ann() if "ann" in what else list(index.scan())
    assert place in said(err)
    if what != "a digest":
        assert check_index(place).exit_code == 5


def test_an_index_json_that_is_damaged(built: Path, s3: Store) -> None:
    text = (built / "indexes" / "g" / "index.json").read_bytes()
    for name, data in (("cut", text[:100]), ("edited", text.replace(b"1500", b"1501"))):
        s3.client.put_object(Bucket=BUCKET, Key=f"indexes/{name}/index.json", Body=data)
        with pytest.raises(DataError, match=f"s3://{BUCKET}/indexes/{name}/index.json: .*opy the folder") as err:
            plada.open_index(f"s3://{BUCKET}/indexes/{name}")
        said(err)


def test_an_index_that_was_made_anew_while_it_was_read(built: Path, s3: Store, tmp_path: Path) -> None:
    place = s3.put(built / "indexes" / "g", "indexes/anew")
    index = plada.open_index(place)
    plada.index("glyphs:count=1500", name="g", home=tmp_path / "other")
    for each in s3.client.list_objects_v2(Bucket=BUCKET, Prefix="indexes/anew/")["Contents"]:
        s3.client.delete_object(Bucket=BUCKET, Key=each["Key"])
    s3.put(tmp_path / "other" / "indexes" / "g", "indexes/anew")
    with pytest.raises(ReferenceMismatch, match="was made anew while it was read"):
        list(index.scan())


def test_options_are_not_shown(s3: Store, url: str) -> None:
    options: dict[str, Any] = {"aws_secret_access_key": SECRET, "aws_access_key_id": ACCESS}
    index = plada.open_index(url, storage_options=options)
    assert SECRET not in repr(index)
    assert SECRET not in repr(index.rows.place)
