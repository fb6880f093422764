"""Catalogues in the explorer: tasks, versions, and what a version changed."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

import plada
from plada.api.explore import open_gallery
from plada.errors import SignatureError
from plada.explorer.catalogues import compare, open_catalogue
from plada.explorer.gallery import Gallery
from plada.payload.payload import Payload
from plada.trainer.payload_context import PayloadContext
from tests.browser import accessibility_violations, browser
from tests.explorer.conftest import CLASSES, TOKEN, Client, nasty_payload, remade, serving
from tests.explorer.test_pages import read
from tests.payload.payloads import made


def versions(home: Path) -> tuple[Payload, Payload]:
    """The second has one more image, one less, and calls the last one otherwise."""
    second = nasty_payload(home)
    labels = second.labels.copy()
    labels[-1] = (labels[-1] + 1) % len(CLASSES)
    keep = np.arange(len(second)) != 1
    first = replace(second, positions=second.positions[keep], labels=labels[keep])
    keep = np.arange(len(second)) != 0
    return first, replace(second, positions=second.positions[keep], labels=second.labels[keep])


@pytest.fixture(scope="module")
def shop(nasty_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    for payload in versions(nasty_home):
        payload.save(root / "menu.plada")
        plada.publish(root / "shop", [root / "menu.plada"], licence="<script>alert(1)</script>\x1b[2J", home=nasty_home)
    made().save(root / "far.plada")
    plada.publish(root / "shop", [root / "far.plada"], home=nasty_home)
    made(seed=2).save(root / "far.plada")
    plada.publish(root / "shop", [root / "far.plada"], home=nasty_home)
    return root / "shop"


@pytest.fixture(scope="module")
def client(nasty: Gallery, shop: Path, nasty_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    context = PayloadContext(home=tmp_path_factory.mktemp("client"))
    with serving(remade(nasty, catalogues=(open_catalogue(shop, context),))) as client:
        client.enter()
        yield client


def test_what_a_catalogue_offers(client: Client) -> None:
    page = read(client.ask("/catalogues"))
    assert "serial number 4, not signed" in page.text
    assert "1 added, 1 removed, 1 called otherwise" in page.text.replace("\xa0", " ")
    assert {"/catalogues/0/menu", "/catalogues/0/far"} <= set(page.of("a", "href"))
    assert "/catalogues" in read(client.ask("/")).of("a", "href")


def test_a_task_and_its_versions(client: Client) -> None:
    page = read(client.ask("/catalogues/0/menu"))
    assert "alert(1)" in page.text
    assert "\\u001b[2J" in page.text or "\\x1b[2J" in page.text
    assert {"/catalogues/0/menu/1", "/catalogues/0/menu/2"} <= set(page.of("a", "href"))
    assert "even-blocks" in page.text or "gaps-zstd" in page.text


def test_what_a_version_changed(client: Client, nasty_home: Path) -> None:
    first, second = versions(nasty_home)
    page = read(client.ask("/catalogues/0/menu/2"))
    assert page.images() == [int(second.positions[0]), int(first.positions[0]), int(first.positions[-1])]
    assert ", now" in page.text
    assert "first version that is kept" in read(client.ask("/catalogues/0/menu/1")).text


def test_a_task_of_another_reference(client: Client) -> None:
    assert "not that of this index" in read(client.ask("/catalogues/0/far")).text
    page = read(client.ask("/catalogues/0/far/2"))
    assert "of another reference than this index" in page.text
    assert page.images() == []


def test_what_there_is_not(client: Client) -> None:
    for path in (
        "/catalogues/1/menu",
        "/catalogues/0/none",
        "/catalogues/0/menu/9",
        "/catalogues/0/menu/x",
        "/catalogues/0/..%2fmenu",
    ):
        assert client.ask(path).status == 404


def test_files_that_are_gone(client: Client, nasty: Gallery, shop: Path, tmp_path: Path) -> None:
    shown = open_catalogue(shop, PayloadContext(home=tmp_path))
    missing = replace(shown, place=replace(shown.place, base=str(tmp_path)))
    with serving(remade(nasty, catalogues=(missing,))) as other:
        other.enter()
        assert "cannot be read here" in read(other.ask("/catalogues/0/menu/2")).text
    assert client.gallery.catalogues[0].signed_by is None


def test_the_call(shop: Path, nasty_home: Path, tmp_path: Path) -> None:
    gallery = open_gallery("nasty", catalogue=[shop], home=nasty_home)
    assert [each.name for each in gallery.catalogues] == ["shop"]
    key = plada.keygen(tmp_path / "key")
    with pytest.raises(SignatureError, match="not signed"):
        open_gallery("nasty", catalogue=[shop], require_signature=key.public, home=nasty_home)


def test_changes_of_payloads() -> None:
    old = made(20, 100)
    changes = compare(old, replace(old, classes=("ant", "wasp", "cat")))
    assert {(before, now) for _, before, now in changes.relabelled} == {("bee", "wasp")}
    assert changes.added == changes.removed == ()


def test_the_pages_of_a_catalogue_are_accessible(client: Client, tmp_path: Path) -> None:
    home = f"http://127.0.0.1:{client.port}"
    with browser(tmp_path) as tab:
        tab.open(f"{home}/catalogues?token={TOKEN}")
        for path in ("/catalogues", "/catalogues/0/menu", "/catalogues/0/menu/2"):
            tab.open(home + path)
            assert tab.run("document.querySelector('h1') !== null"), path
            assert tab.run("location.pathname") == path
            assert accessibility_violations(tab) == [], path
