"""`plada.pull`: from a catalogue to a payload in the home, and what is refused on the way."""

import errno
import importlib.util
import json
import os
import shutil
import stat
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from typer.testing import CliRunner

if importlib.util.find_spec("cryptography") is None:
    pytest.skip("cryptography is not installed (extra: sign)", allow_module_level=True)

import plada
from plada.api.catalogue.pull import PullSummary
from plada.cli import app
from plada.errors import (
    DataError,
    MissingExtra,
    PayloadCorrupt,
    PayloadError,
    PayloadUnsupported,
    RequestError,
    ResourceError,
    SideMissing,
    SignatureError,
    UnknownName,
)  # fmt: skip
from plada.payload.catalogue.envelope import read_envelope, seal, write_envelope
from plada.payload.signature import load_signing_key
from plada.trainer.catalogue import pull as pulling
from tests.api.catalogues import FIRST, SECOND, THIRD, Publisher, served
from tests.payload.payloads import same
from tests.payload.test_diff import changed


@pytest.fixture
def shop(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def pull(shop: Publisher, task: str | None = "menu", **options: Any) -> PullSummary:
    return plada.pull(shop.folder, task, **options)


def restore(shop: Publisher, files: dict[str, bytes]) -> None:
    """Put a catalogue back as it was: what somebody does who serves an old one."""
    shutil.rmtree(shop.folder)
    for name, data in files.items():
        (shop.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shop.folder / name).write_bytes(data)


def forge(shop: Publisher, name: str, /, **members: Any) -> None:
    """Change members of a signed file, and sign it anew with the owner's key."""
    file = shop.folder / name
    value = read_envelope(file.read_bytes(), name).value(name)
    file.write_bytes(write_envelope(seal({**value, **members}, load_signing_key(str(shop.key)))))


# What a pull brings


def test_a_first_pull_and_an_update(shop: Publisher) -> None:
    shop.publish(FIRST)
    (first,) = pull(shop).tasks
    assert (first.version, first.before, first.way, first.checked) == (1, 0, "payload", True)
    assert same(plada.read_payload("menu"), FIRST)
    shop.publish(SECOND)
    (dry,) = pull(shop, dry_run=True).tasks
    assert (dry.version, dry.before, dry.way) == (2, 1, "change")
    assert same(plada.read_payload("menu"), FIRST)
    (second,) = pull(shop).tasks
    assert (second.version, second.before, second.way, second.bytes) == (2, 1, "change", dry.bytes)
    assert same(plada.read_payload("menu"), SECOND)
    (third,) = pull(shop).tasks
    assert (third.way, third.before) == ("nothing", 2)


def test_changes_lead_from_every_version_that_is_kept(shop: Publisher, home: Path) -> None:
    shop.publish(FIRST)
    pull(shop)
    shop.publish(SECOND)
    shop.publish(THIRD)
    (task,) = pull(shop).tasks
    assert (task.way, task.before, task.version) == ("change", 1, 3)
    assert same(plada.read_payload("shop/menu"), THIRD)
    assert not list(home.rglob("*.part"))
    assert not list((next(home.rglob("incoming"))).iterdir())


def test_a_task_that_is_another_one_now_is_fetched_whole(shop: Publisher) -> None:
    shop.publish(FIRST)
    pull(shop)
    shop.publish(changed(gone=0.95, added=900, seed=9))
    assert pull(shop).tasks[0].way == "payload"


def test_what_is_kept_and_damaged_is_fetched_again(shop: Publisher) -> None:
    shop.publish(FIRST)
    file = Path(pull(shop).tasks[0].file)
    file.write_bytes(file.read_bytes()[:-1])
    assert pull(shop).tasks[0].way == "payload"
    changed(gone=0.5).save(file)  # whole, and another
    assert pull(shop).tasks[0].way == "payload"
    assert same(plada.read_payload("menu"), FIRST)
    file.unlink()
    assert pull(shop).tasks[0].way == "payload"


def test_the_ways_to_name_a_task(shop: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.publish(FIRST)
    monkeypatch.chdir(tmp_path)
    for number, (where, task) in enumerate(
        [
            ("shop", "menu"),
            ("shop/menu", None),
            (str(shop.folder / "menu"), None),
            (shop.folder.as_uri() + "/menu", None),
            ("shop/", "menu"),
        ]
    ):
        home = tmp_path / f"home-{number}"
        assert plada.pull(where, task, home=home).tasks[0].task == "menu"
        assert plada.pull(where, task, home=home).tasks[0].way == "nothing"
        assert [each.task for each in plada.pull("shop", home=home).listed] == ["menu"]


def test_a_list(shop: Publisher) -> None:
    shop.publish(FIRST, licence="CC BY")
    shop.publish(SECOND, task="other")
    pull(shop)
    found = pull(shop, None, rate="500bps")
    menu, other = found.listed
    assert (menu.task, menu.here, menu.way, menu.bytes, menu.about) == ("menu", 1, "nothing", 0, {"licence": "CC BY"})
    assert (other.here, other.way, other.bytes) == (0, "payload", len(SECOND.encode()))
    assert other.seconds == pytest.approx(8 * other.bytes / 500)
    assert (found.catalogue, found.serial, found.signed_by) == ("shop", 2, other and found.signed_by)


def test_all_tasks(shop: Publisher) -> None:
    shop.publish(FIRST)
    shop.publish(SECOND, task="other")
    assert {each.task: each.way for each in plada.pull(shop.folder, all_tasks=True).tasks} == {
        "menu": "payload",
        "other": "payload",
    }
    shop.publish(THIRD, task="other")
    assert {each.task: each.way for each in plada.pull(all_tasks=True).tasks} == {"menu": "nothing", "other": "change"}
    for file in (shop.folder / "files").iterdir():
        file.unlink()
    shop.publish(changed(gone=0.3), task="third")
    found = plada.pull(shop.folder, all_tasks=True, home=shop.work / "new")
    assert [each.task for each in found.tasks] == ["third"]
    assert set(found.failed) == {"menu", "other"}


def test_watching(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service goes on where a pull fails."""
    shop.publish(FIRST)
    seen: list[PullSummary] = []
    notes: list[str] = []
    away = shop.work / "away"

    def nap(_: float) -> None:
        """After the first round the catalogue goes away, after the second it is there again."""
        if away.exists():
            away.rename(shop.folder)
        elif len(seen) == 1:
            shop.folder.rename(away)

    monkeypatch.setattr("plada.api.catalogue.pull.time.sleep", nap)
    plada.watch(shop.folder, every=60, rounds=3, pulled=seen.append, report=lambda event: notes.append(event.note))
    assert [each.tasks[0].way for each in seen] == ["payload", "nothing"]
    assert any("Tried again in 60 s" in note for note in notes)
    with pytest.raises(RequestError, match="expected seconds"):
        plada.watch(shop.folder, every=0)


def test_changes_that_cannot_be_used(shop: Publisher) -> None:
    """The owner's own mistake: the whole payload comes in their place."""
    shop.publish(FIRST)
    pull(shop)
    shop.publish(SECOND)
    changes = read_envelope((shop.folder / "tasks/menu").read_bytes(), "").value("")["changes"]
    forge(shop, "tasks/menu", changes=[{**changes[0], "data": "AAAA"}])
    notes: list[str] = []
    (task,) = pull(shop, report=lambda event: notes.append(event.note)).tasks
    assert (task.way, task.version) == ("payload", 2)
    assert any("the changes cannot be used" in note for note in notes)
    assert same(plada.read_payload("menu"), SECOND)


def test_what_is_here_already_is_not_decoded(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large payload with a pack takes half a minute."""
    shop.publish(FIRST)
    pull(shop)
    monkeypatch.setattr(pulling, "parse_with_context", lambda *_, **__: pytest.fail("it was decoded"))
    assert pull(shop).tasks[0].way == "nothing"
    assert plada.pull(shop.folder, all_tasks=True).tasks[0].way == "nothing"


# The names that commands take


def test_every_command_takes_the_name(shop: Publisher, tmp_path: Path, pictures: Path) -> None:
    manifest = plada.open_images(pictures).manifest
    positions = np.arange(0, 24, 2)
    payload = plada.Payload(positions, positions // 2 % 2, ("a", "b"), 24, manifest.key_id, manifest.content_id)
    shop.publish(payload, task="pets")
    plada.pull(shop.folder, "pets")
    assert plada.export("pets", to="csv", out=tmp_path / "x.csv").exists()
    assert plada.inspect("pets").images == 12
    assert plada.report("pets", out=tmp_path / "r.html").images == 12
    assert plada.verify(pictures, against="pets").ok
    summary = plada.train(
        "pets", student="small_cnn", recipe={"epochs": 1}, read=plada.ReadOptions(require_signature=shop.public)
    )
    assert summary.images == 12
    assert plada.diff("pets", "shop/pets", out=tmp_path / "d").added == 0


def test_whose_a_pulled_task_is(shop: Publisher, tmp_path: Path) -> None:
    """The signature of the catalogue vouches for the payload, also where changes made it."""
    stranger = plada.keygen(tmp_path / "stranger")
    shop.publish(FIRST)
    pull(shop)
    shop.publish(SECOND)
    file = Path(pull(shop).tasks[0].file)
    mine = plada.ReadOptions(require_signature=shop.public)
    assert same(plada.read_payload("menu", read=mine), SECOND)
    assert plada.inspect("menu", require_signature=shop.public).images == len(SECOND)
    with pytest.raises(SignatureError, match="required is"):
        plada.read_payload("menu", read=plada.ReadOptions(require_signature=stranger.public))
    with pytest.raises(SignatureError, match="not signed"):
        plada.read_payload(file, read=mine)  # the file alone says nothing of its sender
    THIRD.save(file)
    for call in (
        lambda: plada.read_payload("menu", read=mine),
        lambda: plada.inspect("menu", require_signature=shop.public),
    ):
        with pytest.raises(SignatureError, match="is not the payload that its catalogue's owner has signed"):
            call()
    (next(file.parent.glob("proofs/menu"))).unlink()
    with pytest.raises(SignatureError, match="Pull the task again"):
        plada.read_payload("menu", read=mine)


def test_a_file_of_the_name_goes_first(shop: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.publish(FIRST)
    pull(shop)
    monkeypatch.chdir(tmp_path)
    SECOND.save(tmp_path / "menu")
    assert same(plada.read_payload("menu"), SECOND)
    assert same(plada.read_payload("shop/menu"), FIRST)


def test_names_that_nothing_was_pulled_under(shop: Publisher, tmp_path: Path) -> None:
    shop.publish(FIRST)
    pull(shop)
    with pytest.raises(UnknownName, match=r"did you mean 'menu'.*plada pull WHERE/TASK"):
        plada.read_payload("menue")
    with pytest.raises(RequestError, match="cannot be read"):
        plada.read_payload("other/menu")
    second = Publisher(tmp_path, "market")
    second.publish(SECOND)
    pull(second)
    with pytest.raises(RequestError, match="2 catalogues have a task of that name"):
        plada.read_payload("menu")
    assert same(plada.read_payload("market/menu"), SECOND)


# What is refused


def test_an_older_catalogue(shop: Publisher) -> None:
    shop.publish(FIRST)
    old = shop.files()
    shop.publish(SECOND)
    pull(shop)
    restore(shop, old)
    for task in ("menu", None):
        with pytest.raises(SignatureError, match="has serial number 1; 2 was seen before"):
            pull(shop, task)
    assert same(plada.read_payload("menu"), SECOND)


def test_an_older_catalogue_at_another_place(shop: Publisher, tmp_path: Path) -> None:
    """Serials are remembered by catalogue and key, wherever it is read."""
    shop.publish(FIRST)
    shutil.copytree(shop.folder, tmp_path / "mirror")
    shop.publish(SECOND)
    pull(shop)
    with pytest.raises(SignatureError, match="2 was seen before"):
        plada.pull(tmp_path / "mirror", "menu")


def test_versions_that_never_were_together(shop: Publisher) -> None:
    """One task's file of before beside another one of now; and a file of before under the name of now."""
    shop.publish(FIRST)
    shop.publish(FIRST, task="other")
    old = shop.files()
    shop.publish(SECOND)
    pull(shop)
    (shop.folder / "tasks/other").write_bytes(old["tasks/other"])
    with pytest.raises(SignatureError, match="has serial number 2; 3 was seen before"):
        pull(shop, "other")
    shop.publish(THIRD)
    names = [
        form["file"]
        for form in json.loads((shop.folder / "catalogue.json").read_text())["catalogue"]["tasks"]["menu"]["forms"]
    ]
    (shop.folder / "files" / names[0]).write_bytes(FIRST.encode())
    with pytest.raises(PayloadError):
        pull(shop, home=shop.work / "new")
    assert not (shop.work / "new" / "catalogues").glob("*/menu.plada") or not list(
        (shop.work / "new").rglob("menu.plada")
    )


def test_a_catalogue_that_has_expired(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    shop.publish(FIRST, expires="2d")
    pull(shop)
    monkeypatch.setattr(time, "time", lambda: now + 5 * 86_400)
    for task in ("menu", None):
        with pytest.raises(SignatureError, match=r"expired on 20\d\d-.*ask the catalogue's owner"):
            pull(shop, task)
    shop.publish(expires="30d")
    assert pull(shop).tasks[0].way == "nothing"
    shop.publish(expires="never")
    monkeypatch.setattr(time, "time", lambda: now + 9_999 * 86_400)
    assert pull(shop).expires == 0


def test_a_key_that_was_rotated_away(shop: Publisher, tmp_path: Path) -> None:
    shop.publish(FIRST)
    pull(shop)
    old, key = shop.files(), shop.key
    new = plada.keygen(tmp_path / "new")
    shop.publish(SECOND, rotate_to=new.private)
    assert pull(shop).signed_by == new.fingerprint
    restore(shop, old)
    shop.publish(THIRD, expires="90d")  # whoever has the old key goes on with it, with higher serials
    shop.publish(THIRD, expires="91d")
    with pytest.raises(SignatureError, match=f"which key {new.fingerprint} has replaced"):
        pull(shop)
    assert key == shop.key


def test_several_rotations_at_once(shop: Publisher, tmp_path: Path) -> None:
    shop.publish(FIRST)
    pull(shop)
    keys = [plada.keygen(tmp_path / name) for name in ("b", "c")]
    shop.publish(rotate_to=keys[0].private)
    shop.publish(SECOND, sign=keys[0].private, rotate_to=keys[1].private)
    found = pull(shop)
    assert (found.signed_by, found.tasks[0].way) == (keys[1].fingerprint, "change")
    assert pull(shop, require_signature=keys[1].public).tasks[0].way == "nothing"
    for home in (None, tmp_path / "fresh"):  # the key that clients were given once, and who succeeded it
        assert pull(shop, require_signature=shop.public, home=home).signed_by == keys[1].fingerprint
        options = plada.ReadOptions(require_signature=keys[1].public)
        assert same(plada.read_payload("menu", read=options, home=home), SECOND)
    assert same(plada.read_payload("menu", read=plada.ReadOptions(require_signature=shop.public)), SECOND)
    stranger = plada.keygen(tmp_path / "stranger")
    with pytest.raises(SignatureError, match=r"which is no successor of it; required is"):
        pull(shop, require_signature=stranger.public)


def test_a_key_that_nobody_made_the_successor(shop: Publisher, tmp_path: Path) -> None:
    shop.publish(FIRST)
    pull(shop)
    forger = Publisher(tmp_path, "forger")
    forger.publish(SECOND, name="shop")
    shutil.rmtree(shop.folder)
    shutil.copytree(forger.folder, shop.folder)
    with pytest.raises(SignatureError, match="nothing here says that the other one succeeds it"):
        pull(shop)
    value = read_envelope((shop.folder / "catalogue").read_bytes(), "").value("")
    mine = load_signing_key(str(shop.key)).public.hex()
    shop.key = forger.key
    forge(shop, "catalogue", keys=[{"key": mine}, {**value["keys"][0], "signature": "00" * 64}])
    with pytest.raises(SignatureError, match="whose successor it claims to be"):
        pull(shop)


def test_a_catalogue_that_is_not_signed_any_more(shop: Publisher, tmp_path: Path) -> None:
    shop.publish(FIRST)
    pull(shop)
    shutil.rmtree(shop.folder)
    bare = Publisher(tmp_path, "bare", signed=False)
    bare.publish(SECOND, name="shop")
    shutil.copytree(bare.folder, shop.folder)
    with pytest.raises(SignatureError, match="not signed; known is key"):
        pull(shop)
    with pytest.raises(SignatureError, match="not signed; required is"):
        plada.pull(bare.folder, "menu", require_signature=shop.public)


def test_a_catalogue_that_is_signed_at_last(tmp_path: Path) -> None:
    shop = Publisher(tmp_path, signed=False)
    shop.publish(FIRST)
    assert pull(shop).signed_by is None
    key = plada.keygen(tmp_path / "key")
    shop.publish(SECOND, sign=key.private)
    assert pull(shop).signed_by == key.fingerprint
    plada.publish(tmp_path / "bare", name="shop")
    shutil.copy(tmp_path / "bare/catalogue", shop.folder / "catalogue")
    with pytest.raises(SignatureError, match="not signed"):
        pull(shop, None)


def test_another_catalogues_files(shop: Publisher, tmp_path: Path) -> None:
    """The same key signs both, so that only the name tells them apart."""
    other = Publisher(tmp_path, "other")
    other.key = shop.key
    shop.publish(FIRST)
    other.publish(SECOND)
    pull(shop)
    shutil.copy(other.folder / "tasks/menu", shop.folder / "tasks/menu")
    with pytest.raises(SignatureError, match="is of catalogue 'other'; what was read there before was 'shop'"):
        pull(shop)


def test_another_tasks_file(shop: Publisher) -> None:
    shop.publish(FIRST)
    shop.publish(SECOND, task="other")
    shutil.copy(shop.folder / "tasks/other", shop.folder / "tasks/menu")
    with pytest.raises(PayloadCorrupt, match="speaks of task 'other'; expected 'menu'"):
        pull(shop)


def test_without_the_package_that_checks(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature that cannot be compared is not taken for good."""
    shop.publish(FIRST)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for task in ("menu", None):
        with pytest.raises(MissingExtra, match=r"\[sign\]"):
            pull(shop, task)
    with pytest.raises(MissingExtra):
        plada.watch(shop.folder, "menu", rounds=1)


def test_bytes_that_were_changed(shop: Publisher) -> None:
    shop.publish(FIRST)
    file = shop.folder / "tasks/menu"
    data = file.read_bytes()
    for at in range(0, len(data), 3):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(PayloadError):
            pull(shop)
        file.write_bytes(data[:at])
        with pytest.raises(PayloadError):
            pull(shop)
    file.write_bytes(data + b"x")
    with pytest.raises(PayloadError):
        pull(shop)


def test_a_newer_format(shop: Publisher) -> None:
    shop.publish(FIRST)
    forge(shop, "tasks/menu", format=2)
    with pytest.raises(PayloadUnsupported, match=r"a catalogue of format 2; this plada reads 1. Install a newer plada"):
        pull(shop)
    data = (shop.folder / "catalogue").read_bytes()
    (shop.folder / "catalogue").write_bytes(data[:4] + b"\2" + data[5:])
    with pytest.raises(PayloadUnsupported, match="of version 2"):
        pull(shop, None)


@pytest.mark.parametrize(
    "name", ["../../x", "..", "/etc/passwd", "a/b", "a\\..\\b", "a\x1b[31m", "", ".hidden", "x" * 65]
)
def test_hostile_names(name: str, shop: Publisher, tmp_path: Path, home: Path) -> None:
    """Of the owner himself: nothing is written outside of the home, nothing reaches the terminal."""
    shop.publish(FIRST)
    value = read_envelope((shop.folder / "catalogue").read_bytes(), "").value("")
    forge(shop, "catalogue", tasks={name: value["tasks"]["menu"]})
    with pytest.raises(PayloadCorrupt, match="none that a file may have"):
        pull(shop, None)
    with pytest.raises(PayloadCorrupt, match="none that a file may have"):
        plada.pull(shop.folder, all_tasks=True)
    assert not list(home.rglob("*.plada"))
    forge(shop, "tasks/menu", name=name)
    with pytest.raises(PayloadCorrupt, match="none that a file may have"):
        pull(shop)
    before = {path for path in tmp_path.rglob("*") if home not in path.parents}
    with pytest.raises(RequestError, match="expected 1 to 64 letters"):
        pull(shop, name)
    assert {path for path in tmp_path.rglob("*") if home not in path.parents} == before


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", "memory://x", "https://a b", "https://a\n", 3])
def test_addresses_that_lead_elsewhere(url: Any, shop: Publisher) -> None:
    shop.publish(FIRST)
    forms = read_envelope((shop.folder / "tasks/menu").read_bytes(), "").value("")["forms"]
    forge(shop, "tasks/menu", forms=[{**forms[0], "url": url}])
    with pytest.raises(PayloadCorrupt, match="not that of a web server"):
        pull(shop)


def test_a_task_that_needs_a_pack_that_is_not_here(shop: Publisher) -> None:
    shop.publish(FIRST)
    forms = read_envelope((shop.folder / "tasks/menu").read_bytes(), "").value("")["forms"]
    forge(shop, "tasks/menu", forms=[{**forms[0], "needs": "pack", "pack": "0123456789abcdef"}])
    with pytest.raises(
        SideMissing, match=r"needs the pack 0123456789abcdef of .*plada pull WHERE --reference"
    ) as refused:
        pull(shop)
    assert refused.value.needs == "pack"
    assert pull(shop, have="pack").tasks[0].way == "payload"
    with pytest.raises(RequestError, match="have 'gold': expected one of"):
        pull(shop, have="gold")


def test_what_the_owner_said_wrongly(shop: Publisher) -> None:
    """A payload that is another than the one whose digest is signed."""
    shop.publish(FIRST)
    forge(shop, "tasks/menu", content="00" * 16)
    with pytest.raises(PayloadCorrupt, match="the catalogue says 0000"):
        pull(shop)
    forge(shop, "tasks/menu", key_id="00" * 8)
    with pytest.raises(PayloadCorrupt, match="labels the reference"):
        pull(shop)


def test_no_network_and_no_catalogue(shop: Publisher, tmp_path: Path) -> None:
    shop.publish(FIRST)
    with served(shop.folder) as server:
        plada.pull(server.url, "menu")
        gone = server.url
    with pytest.raises(RequestError, match=r"cannot be fetched|broke off"):
        plada.pull(gone, "menu")
    assert same(plada.read_payload("menu"), FIRST)
    with pytest.raises(RequestError, match="no catalogue is there, and no task of one"):
        plada.pull(tmp_path / "nowhere")
    with pytest.raises(UnknownName, match="known: menu"):
        pull(shop, "mneu")
    with pytest.raises(RequestError, match="no place is named"):
        plada.pull()


def test_a_disk_that_fills(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write it is that fails: what was kept stays in use, and the next pull goes on."""
    shop.publish(FIRST)
    pull(shop)
    shop.publish(SECOND)
    real, left, failed = os.fsync, [0], 0

    def full(handle: int) -> None:
        left[0] -= not stat.S_ISDIR(os.fstat(handle).st_mode)
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    for at in range(1, 20):
        left[0] = at
        try:
            pull(shop)
            break
        except ResourceError as err:
            failed += 1
            assert "No space left" in str(err)
            assert any(same(plada.read_payload("menu"), each) for each in (FIRST, SECOND))
    assert failed >= 3  # what was seen, the payload, its proof
    assert same(plada.read_payload("menu", read=plada.ReadOptions(require_signature=shop.public)), SECOND)


def test_two_pulls_at_once(shop: Publisher) -> None:
    shop.publish(FIRST)
    found: list[PullSummary] = []
    threads = [threading.Thread(target=lambda: found.append(pull(shop))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.tasks[0].way for each in found) == ["nothing", "nothing", "nothing", "payload"]
    assert same(plada.read_payload("menu"), FIRST)


def test_a_catalogue_that_changes_while_it_is_read(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the task's file and the payload the owner publishes twice, so that the payload is gone: the new one comes."""
    shop.publish(FIRST)
    real, turns = pulling.Visit.task, list[int]()

    def task(visit: Any, name: str) -> Any:
        seen = real(visit, name)
        if not turns:
            turns.append(1)
            for number, payload in enumerate((changed(gone=0.9, seed=5), changed(gone=0.8, added=600, seed=6))):
                shop.publish(payload, keep=1, expires=f"{40 + number}d")
        return seen

    monkeypatch.setattr(pulling.Visit, "task", task)
    (pulled,) = pull(shop).tasks
    assert pulled.version == 3
    assert same(plada.read_payload("menu"), changed(gone=0.8, added=600, seed=6))


def test_a_task_that_is_published_just_now(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is new already, one task's file is not: it is waited for, a little while."""
    shop.publish(FIRST)
    file, naps = shop.folder / "tasks/menu", list[float]()
    old = file.read_bytes()
    shop.publish(SECOND)
    new = file.read_bytes()

    def nap(seconds: float) -> None:
        naps.append(seconds)
        file.write_bytes(new if len(naps) == 2 else old)

    file.write_bytes(old)
    monkeypatch.setattr("plada.trainer.catalogue.pull.time.sleep", nap)
    found = plada.pull(shop.folder, all_tasks=True)
    assert (found.failed, found.tasks[0].version, len(naps)) == ({}, 2, 2)
    file.write_bytes(old)
    naps += [0] * 9
    late = plada.pull(shop.folder, all_tasks=True, home=shop.work / "new")
    assert "it is older than what you know" in late.failed["menu"].lower()
    assert len(naps) == 14


def test_what_is_remembered_is_damaged(shop: Publisher, home: Path) -> None:
    shop.publish(FIRST)
    pull(shop)
    state = next(home.rglob("state.json"))
    state.write_text(state.read_text().replace('"shop"', '"shot"'))
    with pytest.raises(DataError, match="To begin anew, remove its folder"):
        pull(shop)


# On the wire


def test_bytes_on_the_wire(tmp_path: Path) -> None:
    """A task of 1 000 bytes: 2 500 more for a first pull, all headers included; an update of 2 % takes 40 % of that at most."""
    shop = Publisher(tmp_path)
    names = tuple(f"dish number {number}" for number in range(10))
    first = replace(changed(gone=0.22, seed=8), classes=names, notes={"target": "menu", "teacher_accuracy": 0.87})
    assert 950 <= len(first.encode()) <= 1050
    shop.publish(first)
    with served(shop.folder) as server:
        plada.pull(f"{server.url}/menu")
        pulled, requests = server.wire, server.requests
        assert pulled <= 1000 + 2500
        assert requests == 2
        shop.publish(changed(first, gone=0.007, relabelled=0.006, added=5, seed=3))
        assert plada.pull(f"{server.url}/menu").tasks[0].way == "change"
        updated = server.wire - pulled
        assert server.requests == 3
        print(f"first pull {pulled} bytes, update {updated} bytes, {updated / pulled:.0%}")
        assert updated <= 0.4 * pulled


def test_the_command_watches(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.publish(FIRST)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) > 1:
            raise KeyboardInterrupt
        shop.publish(SECOND)

    monkeypatch.setattr("plada.api.catalogue.pull.time.sleep", nap)
    for words in (["--all"], []):
        naps.clear()
        done = CliRunner().invoke(
            app,
            ["pull", str(shop.folder), "--watch", "--every", "5", *words, "--home", str(shop.work / f"h{len(words)}")],
        )
        assert done.exit_code == 0
        assert naps == [5, 5]
        assert "shop/menu: version" in done.stdout
    refused = CliRunner().invoke(app, ["pull", str(shop.folder), "--watch", "--reference", "x"])
    assert refused.exit_code == 2


def test_a_store_of_another_kind(shop: Publisher) -> None:
    shop.publish(FIRST)
    store = fsspec.filesystem("memory")
    for name, data in shop.files().items():
        store.pipe(f"/catalogues/shop/{name}", data)
    assert plada.pull("memory://catalogues/shop/menu").tasks[0].way == "payload"
    assert [each.here for each in plada.pull("memory://catalogues/shop").listed] == [1]
    store.rm("/catalogues", recursive=True)


def test_the_command(shop: Publisher) -> None:
    shop.publish(FIRST, licence="CC BY\x1b[2J")

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["pull", *words])

    listed = run(str(shop.folder), "--rate", "500bps")
    assert listed.exit_code == 0
    assert "is the first one seen here" in listed.stderr
    assert "is the first one seen here" not in run(str(shop.folder)).stderr
    assert "menu" in listed.stdout
    assert "\x1b" not in listed.stdout
    assert json.loads(run(f"{shop.folder}/menu", "--json").stdout.splitlines()[-1])["tasks"][0]["way"] == "payload"
    assert "is here already" in run(f"{shop.folder}/menu").stdout
    assert "is here already" in run("--all").stdout
    refused = run(f"{shop.folder}/menue")
    assert refused.exit_code == 2
    assert "known: menu" in refused.stderr
    for file in (shop.folder / "files").iterdir():
        file.unlink()
    broken = run(str(shop.folder), "--all", "--home", str(shop.work / "new"))
    assert broken.exit_code == 1
    assert "cannot be fetched" in broken.stderr
