"""`plada.publish`: what a catalogue's folder holds, and what it refuses."""

import errno
import importlib.util
import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

if importlib.util.find_spec("cryptography") is None:
    pytest.skip("cryptography is not installed (extra: sign)", allow_module_level=True)

import plada
from plada.cli import app
from plada.errors import PayloadCorrupt, PayloadUnsupported, RequestError, ResourceError, SignatureError, UnknownName
from plada.payload.diff import count_changes
from tests.api.catalogues import FIRST, SECOND, THIRD, Publisher
from tests.payload.test_diff import changed


@pytest.fixture
def shop(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def said(shop: Publisher) -> Any:
    return json.loads((shop.folder / "catalogue.json").read_text())["catalogue"]


def test_a_first_publication(shop: Publisher) -> None:
    summary = shop.publish(FIRST)
    (task,) = summary.tasks
    assert (summary.serial, summary.name, summary.published) == (1, "shop", True)
    assert (task.task, task.version, task.change, task.images, task.classes) == ("menu", 1, "new", 1000, 10)
    assert task.bytes == len(FIRST.encode()) == summary.bytes
    assert set(shop.files()) == {
        "catalogue",
        "catalogue.json",
        "tasks/menu",
        f"files/{said(shop)['tasks']['menu']['forms'][0]['file']}",
    }
    assert json.loads(json.dumps(summary.to_dict()))["tasks"][0]["task"] == "menu"


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = Publisher(tmp_path, "one"), Publisher(tmp_path, "other")
    other.key = one.key
    for shop in (one, other):
        for payload in (FIRST, SECOND):
            shop.publish(payload, expires="2100-01-01", name="shop")
    assert one.files() == other.files()


def test_an_update_brings_changes_and_keeps_versions(shop: Publisher) -> None:
    shop.publish(FIRST)
    updated = shop.publish(SECOND)
    (task,) = updated.tasks
    assert (task.version, task.change) == (2, "updated")
    assert task.changes is not None
    assert task.changes < 0.2 * task.bytes
    entry = said(shop)["tasks"]["menu"]
    assert [version["version"] for version in entry["history"]] == [2, 1]
    newest = entry["history"][0]
    assert (newest["removed"], newest["added"], newest["relabelled"]) == count_changes(FIRST, SECOND)
    assert len(list((shop.folder / "files").iterdir())) == 2
    third = shop.publish(THIRD, keep=2)
    assert [version["version"] for version in said(shop)["tasks"]["menu"]["history"]] == [3, 2]
    assert len(list((shop.folder / "files").iterdir())) == 3  # the first is spoken of by the catalogue of before
    assert third.serial == 3
    shop.publish(keep=2, expires="60d")
    assert len(list((shop.folder / "files").iterdir())) == 2


def test_a_task_of_other_images_now(shop: Publisher, tmp_path: Path) -> None:
    """Another reference: no changes lead there, and clients take the whole payload."""
    shop.publish(FIRST)
    plada.pull(shop.folder, "menu")
    moved = replace(SECOND, key_id=bytes(8), reference=30_000)
    (task,) = shop.publish(moved).tasks
    assert (task.version, task.changes) == (2, None)
    assert [entry["key_id"] for entry in said(shop)["references"].values()] == ["00" * 8]
    assert said(shop)["tasks"]["menu"]["history"][0].get("added", 0) == 0
    assert plada.pull(shop.folder, "menu").tasks[0].way == "payload"


def test_nothing_is_written_where_nothing_is_new(shop: Publisher) -> None:
    shop.publish(FIRST, expires="2100-01-01")
    before = shop.files()
    again = shop.publish(FIRST, expires="2100-01-01")
    assert not again.published
    assert again.tasks[0].change == "same"
    assert shop.files() == before
    renewed = shop.publish(expires="2100-02-01")
    assert renewed.published
    assert (renewed.serial, renewed.tasks[0].change) == (2, "kept")


def test_forms_of_one_task(shop: Publisher, tmp_path: Path) -> None:
    ranked = replace(FIRST, rank=FIRST.positions)
    FIRST.save(tmp_path / "plain.plada")
    ranked.save(tmp_path / "parts.plada", progressive="layers")
    summary = plada.publish(
        shop.folder, [f"menu={tmp_path / 'plain.plada'}", f"menu={tmp_path / 'parts.plada'}"], sign=shop.key
    )
    assert list(summary.tasks[0].forms) == ["nothing, progressive", "nothing"]
    assert [form.get("progressive", False) for form in said(shop)["tasks"]["menu"]["forms"]] == [False, True]
    SECOND.save(tmp_path / "parts.plada")
    with pytest.raises(RequestError, match="have different labels"):
        plada.publish(shop.folder, [f"x={tmp_path / 'plain.plada'}", f"x={tmp_path / 'parts.plada'}"], sign=shop.key)


def test_a_serial_number_must_grow(shop: Publisher) -> None:
    shop.publish(replace(FIRST, serial=5))
    with pytest.raises(RequestError, match="serial number is none; 5 was published"):
        shop.publish(SECOND)
    with pytest.raises(RequestError, match="serial number is 5; 5 was published"):
        shop.publish(replace(SECOND, serial=5))
    assert shop.publish(replace(SECOND, serial=6)).tasks[0].version == 2


def test_tasks_are_removed(shop: Publisher) -> None:
    shop.publish(FIRST)
    shop.publish(SECOND, task="other")
    with pytest.raises(UnknownName, match="did you mean 'menu'"):
        shop.publish(remove=["menue"])
    summary = shop.publish(remove=["menu"])
    assert [task.task for task in summary.tasks] == ["other"]
    assert sorted(name for name in shop.files() if name.startswith("tasks")) == ["tasks/other"]
    shop.publish(remove=["other"])
    assert said(shop)["tasks"] == said(shop)["references"] == {}


@pytest.mark.parametrize("name", ["..", ".x", "a/b", "a\\b", "", "x" * 65, "-a", "a b", "a\x1b[2J", "ü"])
def test_names_that_no_file_may_have(name: str, shop: Publisher, tmp_path: Path) -> None:
    FIRST.save(tmp_path / "f.plada")
    with pytest.raises(RequestError, match="expected 1 to 64 letters"):
        plada.publish(shop.folder, [f"{name}={tmp_path / 'f.plada'}"], sign=shop.key)
    if name:
        with pytest.raises(RequestError, match="expected 1 to 64 letters"):
            plada.publish(shop.folder, name=name)


def test_names_that_a_disk_takes_for_one(shop: Publisher, tmp_path: Path) -> None:
    FIRST.save(tmp_path / "f.plada")
    with pytest.raises(RequestError, match="take these names for one"):
        plada.publish(shop.folder, [f"a={tmp_path / 'f.plada'}", f"A={tmp_path / 'f.plada'}"], sign=shop.key)
    shop.publish(FIRST, task="Menu")
    with pytest.raises(RequestError, match="take these names for one"):
        shop.publish(SECOND, task="menu")


@pytest.mark.parametrize("text", ["0d", "-1d", "2001-01-01", "soon", "30", "2030-13-01", "99999d"])
def test_moments_that_are_none(text: str, shop: Publisher) -> None:
    with pytest.raises(RequestError, match=r"expected days such as 30d"):
        shop.publish(FIRST, expires=text)


def test_when_it_expires(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(100 * 86400 + 5))
    assert shop.publish(FIRST, expires="2d").expires == 103 * 86400
    assert shop.publish(expires="1971-01-01").expires == 366 * 86400
    assert shop.publish(expires="never").expires == 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(RequestError, match="expected seconds since 1970"):
        shop.publish()


def test_a_signed_catalogue_stays_signed(shop: Publisher, tmp_path: Path) -> None:
    shop.publish(FIRST)
    with pytest.raises(RequestError, match="clients demand that"):
        shop.publish(SECOND, sign=None)
    stranger = plada.keygen(tmp_path / "stranger")
    with pytest.raises(RequestError, match=f"signed by key .*; {stranger.fingerprint} was given"):
        shop.publish(SECOND, sign=stranger.private)
    with pytest.raises(RequestError, match="give it too"):
        shop.publish(SECOND, sign=None, rotate_to=stranger.private)
    with pytest.raises(RequestError, match="clients know it by that name"):
        shop.publish(SECOND, name="else")
    rotated = shop.publish(SECOND, rotate_to=stranger.private)
    assert rotated.signed_by == stranger.fingerprint
    with pytest.raises(RequestError, match="clients believe a key once"):
        shop.publish(sign=stranger.private, rotate_to=shop.key)
    assert shop.publish(THIRD, sign=stranger.private).tasks[0].version == 3


def test_an_unsigned_catalogue_can_be_signed_later(tmp_path: Path) -> None:
    shop = Publisher(tmp_path, signed=False)
    assert shop.publish(FIRST).signed_by is None
    key = plada.keygen(tmp_path / "key")
    assert shop.publish(sign=key.private).signed_by == key.fingerprint


def test_a_catalogue_that_was_changed_is_not_published_upon(shop: Publisher) -> None:
    shop.publish(FIRST)
    file = shop.folder / "catalogue.json"
    text = file.read_text()
    file.write_text(text.replace('"serial": 1', '"serial": 9'))
    with pytest.raises(SignatureError, match="somebody has changed"):
        shop.publish(SECOND)
    file.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises((SignatureError, PayloadUnsupported)):
        shop.publish(SECOND)
    file.write_text("{")
    with pytest.raises(PayloadCorrupt, match="is no catalogue"):
        shop.publish(SECOND)
    file.unlink()
    with pytest.raises(RequestError, match="Restore it"):
        shop.publish(SECOND)


def test_a_newer_format_is_not_published_upon(tmp_path: Path) -> None:
    shop = Publisher(tmp_path, signed=False)
    shop.publish(FIRST)
    file = shop.folder / "catalogue.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(PayloadUnsupported, match="a catalogue of format 2; this plada reads 1"):
        shop.publish(SECOND)


def test_places_that_are_no_folder(shop: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="is no folder"):
        plada.publish(tmp_path / "file")
    with pytest.raises(RequestError, match="expected a folder of this machine"):
        plada.publish("s3://bucket/catalogue")


def test_a_disk_that_fills_leaves_the_old_catalogue(shop: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write it is that fails."""
    shop.publish(FIRST)
    real, left = os.fsync, [0]

    def full(handle: int) -> None:
        left[0] -= not stat.S_ISDIR(os.fstat(handle).st_mode)
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    SECOND.save(shop.work / "menu.plada")
    before, failed = shop.files(), 0
    for at in range(1, 20):
        left[0] = at
        try:
            done = plada.publish(shop.folder, [shop.work / "menu.plada"], sign=shop.key)
        except ResourceError as err:
            failed += 1
            assert "No space left" in str(err)
            assert {name: shop.files()[name] for name in before} == before
            assert not [name for name in shop.files() if name.endswith((".part", ".lock"))]
            for name in shop.files().keys() - before.keys():
                (shop.folder / name).unlink()
        else:
            break
    assert failed == 4  # the payload, the task's file, both forms of the catalogue
    assert done.serial == 2


def test_a_publication_that_was_stopped_half_way_is_gone_on_with(shop: Publisher) -> None:
    """The tasks' files were replaced and the rest was not: no serial number is given twice."""
    shop.publish(FIRST)
    old = shop.files()["catalogue.json"], shop.files()["catalogue"]
    shop.publish(SECOND)
    (shop.folder / "catalogue.json").write_bytes(old[0])
    (shop.folder / "catalogue").write_bytes(old[1])
    assert shop.publish(SECOND).serial == 3


def test_two_publishers_at_once(shop: Publisher) -> None:
    """Neither is lost."""
    shop.publish(FIRST)
    for number in range(4):
        changed(gone=0.1, seed=number).save(shop.work / f"t{number}.plada")
    threads = [
        threading.Thread(
            target=plada.publish, args=(shop.folder, [shop.work / f"t{number}.plada"]), kwargs={"sign": shop.key}
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(said(shop)["tasks"]) == {"menu", "t0", "t1", "t2", "t3"}
    assert said(shop)["serial"] == 5


def test_what_a_selection_said_stands_in_the_catalogue(shop: Publisher, tmp_path: Path) -> None:
    FIRST.save(tmp_path / "menu.plada")
    report = {"type": "summary", "payload": "menu.plada", "teacher": {"kind": "linear"}, "rule": "herd-even",
              "forecast": {"accuracy": 0.8, "interval": [0.7, 0.9]}}  # fmt: skip
    (tmp_path / "select.json").write_text('{"type": "progress"}\n' + json.dumps(report) + "\n")
    plada.publish(
        shop.folder, [tmp_path / "menu.plada"], sign=shop.key, reports=[tmp_path / "select.json"], licence="CC BY 4.0"
    )
    about = said(shop)["tasks"]["menu"]["about"]
    assert about == {
        "teacher": "linear", "rule": "herd-even", "forecast": 0.8, "forecast_interval": [0.7, 0.9], "licence": "CC BY 4.0"
    }  # fmt: skip
    plada.publish(shop.folder, [tmp_path / "menu.plada"], sign=shop.key)
    assert said(shop)["tasks"]["menu"]["about"] == about  # the same payload: what was said of it still holds
    (tmp_path / "bad.json").write_text("{}")
    for bad in ("bad.json", "none.json"):
        with pytest.raises(RequestError, match="select --json"):
            plada.publish(shop.folder, reports=[tmp_path / bad], sign=shop.key)


def test_the_command(shop: Publisher, tmp_path: Path) -> None:
    FIRST.save(tmp_path / "menu.plada")
    words = ["publish", str(shop.folder), str(tmp_path / "menu.plada")]
    done = CliRunner().invoke(app, [*words, "--sign", str(shop.key), "--expires", "2100-01-01"])
    assert done.exit_code == 0, done.stderr
    assert "1 (new)" in done.stdout
    assert "signed by key" in " ".join(done.stdout.split())
    again = CliRunner().invoke(app, [*words, "--sign", str(shop.key), "--expires", "2100-01-01", "--json"])
    assert json.loads(again.stdout.splitlines()[-1])["published"] is False
    refused = CliRunner().invoke(app, [*words, "--url", "x=https://a/b"])
    assert refused.exit_code == 2
    assert "NAME.manifest=URL" in refused.stderr
    open_one = CliRunner().invoke(app, ["publish", str(tmp_path / "open"), str(tmp_path / "menu.plada")])
    assert "cannot tell it from a forgery" in open_one.stderr
