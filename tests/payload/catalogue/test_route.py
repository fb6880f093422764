"""The cheapest way to the newest version, by what a client has."""

from collections.abc import Callable

import pytest

from plada.errors import SideMissing
from plada.payload.catalogue.document import Change, Form, Task
from plada.payload.catalogue.route import Holding, choose_route

NEW, OLD, OLDER, PACK = "aa" * 16, "bb" * 16, "cc" * 16, "dd" * 8
PLAIN = Form(file="01" * 16, bytes=5000, needs="nothing")
SMALL = Form(file="02" * 16, bytes=4000, needs="manifest")
LEAST = Form(file="03" * 16, bytes=2500, needs="pack", pack=PACK)
PARTS = Form(file="04" * 16, bytes=5500, needs="nothing", progressive=True)
CHANGE = Change(file="05" * 16, bytes=300, old=OLD[:16], needs="manifest")
PACKED = Change(file="06" * 16, bytes=200, old=OLD[:16], needs="pack", pack=PACK)
LATE = Change(file="07" * 16, bytes=3900, old=OLDER[:16], needs="nothing")
INLINE = Change(file="", bytes=1000, old=OLDER[:16], needs="nothing", data=b"x" * 1000)


def task(*changes: Change, forms: tuple[Form, ...] = (PARTS, PLAIN, SMALL, LEAST)) -> Task:
    return Task(version=3, content=NEW, key_id="ee" * 8, reference="photos", forms=forms, changes=changes)


def having(*needs: str) -> Callable[[str, str], bool]:
    return lambda wanted, _: wanted in ("nothing", *needs)


def route(entry: Task, *needs: str, content: str = "", readable: bool = True, progressive: bool = False) -> object:
    found = choose_route(
        "menu", entry, Holding(content=content, readable=readable, can_read=having(*needs)), progressive=progressive
    )
    return found.form or found.change


def test_forms() -> None:
    entry = task()
    assert route(entry) is PLAIN
    assert route(entry, "manifest") is SMALL
    assert route(entry, "manifest", "pack") is LEAST
    assert route(entry, "manifest", progressive=True) is PARTS
    assert route(task(forms=(SMALL,)), "manifest", progressive=True) is SMALL
    assert route(task(forms=(PARTS,))) is PARTS


def test_changes() -> None:
    entry = task(CHANGE, PACKED, LATE)
    assert route(entry, "manifest", content=OLD) is CHANGE
    assert route(entry, "manifest", "pack", content=OLD) is PACKED
    assert route(entry, content=OLD) is PLAIN
    assert route(entry, "manifest", content=OLD, readable=False) is SMALL
    assert route(entry, "manifest", content=OLDER) is LATE
    assert route(entry, "manifest", "pack", content=OLDER) is LEAST
    assert route(entry, "manifest", content="00" * 16) is SMALL
    assert route(entry, "manifest", content=NEW) is None


def test_changes_that_have_come_already_cost_nothing() -> None:
    entry = task(INLINE)
    found = choose_route("menu", entry, Holding(content=OLDER, readable=True, can_read=having("manifest", "pack")))
    assert (found.change, found.bytes, found.kind) == (INLINE, 0, "change")


def test_nothing_that_can_be_read() -> None:
    with pytest.raises(SideMissing, match=f"needs the pack {PACK} of photos") as missing:
        route(task(forms=(LEAST,)), "manifest")
    assert missing.value.needs == "pack"
    with pytest.raises(SideMissing, match="Say --have manifest") as missing:
        route(task(forms=(SMALL, LEAST)))
    assert missing.value.needs == "manifest"
