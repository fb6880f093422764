"""Where a catalogue goes beside its folder: frames that clients pull from, a card, copies in stores and repositories."""

import importlib.util
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

if importlib.util.find_spec("cryptography") is None:
    pytest.skip("cryptography is not installed (extra: sign)", allow_module_level=True)

import plada
from plada import Outlets
from plada.cli import app
from plada.errors import (
    MissingExtra,
    PayloadCorrupt,
    PayloadTruncated,
    PladaError,
    RequestError,
    SignatureError,
    UnknownName,
)
from tests.api.catalogues import FIRST, SECOND, THIRD, Publisher

HUB = "hf://datasets/somebody/tasks"


@pytest.fixture
def shop(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


@pytest.fixture
def hub() -> Iterator[MemoryFileSystem]:
    """A file system that stands in for that of the Hub."""
    before = fsspec.registry.get("hf")
    fsspec.register_implementation("hf", HubStandIn, clobber=True)
    HubStandIn.store, HubStandIn.pseudo_dirs, HubStandIn.writes = {}, [""], []
    yield HubStandIn()
    fsspec.register_implementation("hf", before, clobber=True)


class HubStandIn(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Keeps what is pushed, and in which order."""

    protocol = "hf"
    writes: ClassVar[list[str]] = []
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return (
            "/" + str(path).removeprefix("hf://").strip("/")
            if str(path).startswith("hf://")
            else MemoryFileSystem._strip_protocol(path)
        )

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self.writes.append(path.partition("tasks/")[2])
        super().pipe_file(path, value, **options)


def heard(path: Path, seed: int, *, lost: float = 0.1) -> Path:
    """What a receiver has of a carousel that it joins anywhere: until nine tenths of a turn have gone by."""
    data, draw = path.read_bytes(), random.Random(seed)
    frames = [data[at : at + 256] for at in range(0, len(data), 256)]
    start = draw.randrange(len(frames))
    kept = [frame for frame in frames[start:] + frames[:start] if draw.random() >= lost]
    out = path.with_name(f"heard-{seed}")
    out.write_bytes(b"".join(kept))
    return out


@pytest.fixture
def frames(shop: Publisher, tmp_path: Path) -> Path:
    pytest.importorskip("raptorq", reason="raptorq is not installed")
    shop.publish(FIRST)
    summary = shop.publish(SECOND, outlets=Outlets(carousel=tmp_path / "frames"))
    assert summary.carousel is not None
    assert summary.carousel.frames * 256 == (tmp_path / "frames").stat().st_size
    assert 1.25 * summary.carousel.needed < summary.carousel.frames < 1.5 * summary.carousel.needed + 9
    return tmp_path / "frames"


def test_a_carousel_is_pulled_from_its_frames(frames: Path, shop: Publisher, tmp_path: Path) -> None:
    for seed in range(5):
        home = tmp_path / f"home-{seed}"
        summary = plada.pull(heard(frames, seed), home=home, require_signature=shop.public)
        assert [(task.task, task.version, task.way) for task in summary.tasks] == [("menu", 2, "payload")]
        assert plada.read_payload("menu", home=home).digest() == SECOND.digest()


def test_one_task_of_a_carousel(frames: Path, shop: Publisher, tmp_path: Path, home: Path) -> None:
    shop.publish(FIRST, task="other", outlets=Outlets(carousel=frames))
    assert [task.task for task in plada.pull(f"{frames}/other").tasks] == ["other"]
    assert [task.task for task in plada.pull(frames, "menu").tasks] == ["menu"]
    assert plada.read_payload("menu").digest() == SECOND.digest()
    with pytest.raises(UnknownName, match="menue"):
        plada.pull(f"{frames}/menue")
    assert {task.task for task in plada.pull(frames).tasks} == {"menu", "other"}
    frames.unlink()
    failed = plada.pull(all_tasks=True).failed
    assert failed and "frames" in str(failed)


def test_a_carousel_updates_what_is_here(frames: Path, shop: Publisher, tmp_path: Path) -> None:
    """By changes, over whichever way the task came before; and nothing older is believed."""
    old = frames.read_bytes()
    shop.publish(SECOND)
    plada.pull(f"{shop.folder}/menu")
    shop.publish(THIRD, outlets=Outlets(carousel=frames, frame_bytes=128))
    (task,) = plada.pull(frames).tasks
    assert (task.version, task.way) == (3, "change")
    assert plada.read_payload("menu").digest() == THIRD.digest()
    (tmp_path / "old").write_bytes(old)
    with pytest.raises(SignatureError, match="older than what you know"):
        plada.pull(tmp_path / "old")


def test_frames_that_are_no_good(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "few").write_bytes(frames.read_bytes()[:600])
    (tmp_path / "none").write_bytes(b"x" * 600)
    with pytest.raises(PayloadTruncated, match="few: 2 different frames came"):
        plada.pull(tmp_path / "few")
    for where in (tmp_path / "none", f"{tmp_path / 'none'}/menu"):
        with pytest.raises(PayloadCorrupt, match="no whole frame of a carousel; expected frames, or the folder"):
            plada.pull(where)
    result = CliRunner().invoke(app, ["pull", str(tmp_path / "few")])
    assert result.exit_code == 3
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_carousel_carries_what_pays(shop: Publisher, tmp_path: Path) -> None:
    pytest.importorskip("raptorq", reason="raptorq is not installed")
    from plada.payload.catalogue.carousel import read_carousel

    shop.publish(FIRST)
    shop.publish(SECOND, outlets=Outlets(carousel=tmp_path / "frames"))
    carried = read_carousel(tmp_path / "frames")
    assert set(carried) < set(shop.files())
    assert {name for name in carried if not name.startswith("files/")} == {"catalogue", "tasks/menu"}
    newest = json.loads((shop.folder / "catalogue.json").read_text())["catalogue"]["tasks"]["menu"]["forms"]
    assert {name.removeprefix("files/") for name in carried if name.startswith("files/")} == {
        form["file"] for form in newest
    }


def test_the_card(shop: Publisher) -> None:
    cards = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    shop.publish(FIRST, outlets=Outlets(card=True), licence="no | sale <b>\n# here", expires="2100-01-01")
    path = shop.folder / "README.md"
    text = path.read_text()
    card = cards.DatasetCard(text)
    meta = card.data.to_dict()
    assert (meta["pretty_name"], meta["size_categories"], meta["viewer"]) == ("shop", ["1K<n<10K"], False)
    assert meta["task_categories"] == ["image-classification"]
    assert "| menu | 1 | 10 | 1000 |" in card.text
    assert "no \\| sale \\<b\\>\\\\n\\# here" in card.text
    again = shop.publish(FIRST, outlets=Outlets(card=True), licence="no | sale <b>\n# here", expires="2100-01-01")
    assert not again.published and path.read_text() == text
    path.write_text("# mine")
    shop.publish(SECOND)
    assert path.read_text() == "# mine"
    with pytest.raises(RequestError, match=r"README\.md: was not written by plada"):
        shop.publish(SECOND, outlets=Outlets(card=True))


def test_the_cards_metadata_passes_the_hubs_validator(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does without the network: what it sends is the card, and its reader takes the metadata back unchanged."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    from huggingface_hub import repocard

    shop.publish(FIRST, name="shop", outlets=Outlets(card=True))
    card = hub.DatasetCard.load(shop.folder / "README.md")
    sent: list[Any] = []

    class Session:
        def post(self, url: str, json: Any, **_: Any) -> Any:
            sent.append((url, json))

    monkeypatch.setattr(repocard, "get_session", Session)
    monkeypatch.setattr(repocard, "hf_raise_for_status", lambda _: None)
    card.validate()
    ((url, body),) = sent
    assert url.endswith("/api/validate-yaml") and body["repoType"] == "dataset"
    assert repocard.metadata_load(shop.folder / "README.md") == card.data.to_dict()


def test_a_copy_on_the_hub(shop: Publisher, hub: MemoryFileSystem, home: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    first = shop.publish(FIRST, outlets=Outlets(push=HUB)).pushed
    assert first is not None
    assert (first.files, first.removed) == (5, 0)
    assert HubStandIn.writes[-4:] == ["tasks/menu", "catalogue", "catalogue.json", "README.md"]
    assert f"plada pull {HUB}/TASK" in hub.cat_file("/datasets/somebody/tasks/README.md").decode()
    assert plada.pull(f"{HUB}/menu").tasks[0].way == "payload"
    assert plada.read_payload("menu").digest() == FIRST.digest()
    shop.publish(SECOND)
    third = shop.publish(THIRD, keep=1, outlets=Outlets(push=HUB)).pushed
    assert third is not None and third.files == 6
    assert plada.pull(f"{HUB}/menu").tasks[0].version == 3
    assert plada.read_payload("menu").digest() == THIRD.digest()
    same = shop.publish(THIRD, keep=1, outlets=Outlets(push=HUB)).pushed
    assert same is not None and (same.files, same.bytes) == (0, 0)
    shop.publish(keep=1, expires="60d", outlets=Outlets(push=HUB))
    names = {name.removeprefix("/datasets/somebody/tasks/") for name in hub.find("/datasets/somebody/tasks")}
    assert names == set(shop.files())


def test_a_push_that_was_stopped_leaves_the_old_catalogue(
    shop: Publisher, hub: MemoryFileSystem, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whichever file it is stopped: readers get the old version or the new one, and the next push finishes."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    shop.publish(FIRST, outlets=Outlets(push=HUB))
    shop.publish(SECOND)
    whole = HubStandIn.pipe_file
    for stop in range(5):
        left = [stop]

        def pipe(self: Any, path: str, value: bytes, left: list[int] = left, **options: Any) -> None:
            if not left[0]:
                raise OSError("the link broke\nsomewhere")
            left[0] -= 1
            whole(self, path, value, **options)

        monkeypatch.setattr(HubStandIn, "pipe_file", pipe)
        try:
            shop.publish(SECOND, outlets=Outlets(push=HUB))
        except RequestError as err:
            assert f"{HUB}: cannot be written (the link broke)" in str(err)
        monkeypatch.setattr(HubStandIn, "pipe_file", whole)
        task = plada.pull(f"{HUB}/menu", home=home / str(stop)).tasks[0]
        wanted = {1: FIRST, 2: SECOND}[task.version]
        assert plada.read_payload("menu", home=home / str(stop)).digest() == wanted.digest()
    shop.publish(SECOND, outlets=Outlets(push=HUB))
    assert plada.pull(f"{HUB}/menu").tasks[0].version == 2


def test_places_that_take_no_copy(shop: Publisher, tmp_path: Path, hub: MemoryFileSystem) -> None:
    shop.publish(FIRST)
    other = Publisher(tmp_path, "other")
    other.publish(SECOND)
    older = Publisher(tmp_path, "older")
    older.key = shop.key
    older.publish(FIRST, name="shop")
    copy = tmp_path / "copy"
    shop.publish(SECOND, outlets=Outlets(push=copy))
    for where, message in (
        ("http://127.0.0.1/x", "a web server takes no files"),
        ("nonsense://x", "cannot be written here"),
        (str(tmp_path / "frames-file" / "x"), "cannot be"),
    ):
        (tmp_path / "frames-file").write_bytes(b"")
        with pytest.raises(PladaError, match=message):
            shop.publish(outlets=Outlets(push=where))
    with pytest.raises(RequestError, match="holds the catalogue 'shop', not 'other'"):
        other.publish(outlets=Outlets(push=copy))
    with pytest.raises(RequestError, match=r"holds serial number 2; this one is 1\. Somebody else has published"):
        plada.publish(older.folder, sign=older.key, outlets=Outlets(push=copy))
    (copy / "catalogue").write_bytes(b"something else")
    with pytest.raises(RequestError, match="Something else is there"):
        shop.publish(outlets=Outlets(push=copy))


def test_a_copy_in_a_folder(shop: Publisher, tmp_path: Path) -> None:
    for payload in (FIRST, SECOND):
        shop.publish(payload, outlets=Outlets(push=tmp_path / "copy"))
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    shop.publish(THIRD, outlets=Outlets(push=(tmp_path / "copy").as_uri()))
    copied = {
        str(path.relative_to(tmp_path / "copy")): path.read_bytes()
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file()
    }
    assert copied.pop("notes.txt") == b"mine"
    assert copied == shop.files()


def test_packages_that_are_missing(shop: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.publish(FIRST)
    before = shop.files()
    monkeypatch.setitem(sys.modules, "raptorq", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"\[carousel\]"):
        shop.publish(SECOND, outlets=Outlets(carousel=tmp_path / "frames"))
    with pytest.raises(MissingExtra, match=r"\[hub\]"):
        shop.publish(SECOND, outlets=Outlets(push=HUB))
    with pytest.raises(MissingExtra, match=r"\[hub\]"):
        plada.pull(f"{HUB}/menu")
    assert shop.files() == before


def test_the_command(shop: Publisher, tmp_path: Path) -> None:
    pytest.importorskip("raptorq", reason="raptorq is not installed")
    shop.publish(FIRST)
    arguments = [
        "publish",
        str(shop.folder),
        "--sign",
        str(shop.key),
        "--carousel",
        str(tmp_path / "f"),
        "--push",
        str(tmp_path / "c"),
    ]
    result = CliRunner().invoke(app, [*arguments, "--frame-bytes", "512"])
    assert result.exit_code == 0, result.output
    assert "frames of 512 bytes, to be sent in a circle" in result.output
    assert f"{tmp_path / 'c'}: " in result.output
    result = CliRunner().invoke(app, [*arguments, "--json"])
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["carousel"]["frame_bytes"] == 256
    assert summary["pushed"]["files"] == 0
    result = CliRunner().invoke(app, ["pull", str(tmp_path / "f"), "--json"])
    assert json.loads(result.stdout.splitlines()[-1])["tasks"][0]["task"] == "menu"
    result = CliRunner().invoke(app, [*arguments[:4], "--carousel", str(tmp_path)])
    assert result.exit_code == 2


def test_watching_frames(frames: Path, shop: Publisher) -> None:
    """A receiver that goes on writing its file: each round takes what is there by now."""
    whole = frames.read_bytes()
    frames.write_bytes(whole[:300])
    notes: list[str] = []
    rounds: list[Any] = []

    def pulled(summary: Any) -> None:
        rounds.append([(task.task, task.version) for task in summary.tasks])

    def report(event: Any) -> None:
        if event.note:
            notes.append(event.note)
            frames.write_bytes(whole)

    plada.watch(frames, every=0.01, rounds=3, pulled=pulled, report=report)
    assert rounds == [[("menu", 2)]] * 2
    assert "1 different frames came" in notes[0]


def test_frames_are_explored_like_any_catalogue(frames: Path, home: Path) -> None:
    from plada.explorer.catalogues import open_catalogue
    from plada.trainer.payload_context import PayloadContext

    shown = open_catalogue(frames, PayloadContext(home=home))
    assert shown.catalogue.tasks["menu"].version == 2
    newest, before = shown.catalogue.tasks["menu"].history
    assert shown._payload(newest).digest() == SECOND.digest()  # type: ignore[union-attr]
    assert shown._payload(before) is None  # frames carry the newest version alone
