"""Uploads are bounded in pixels, and an index that has gone is said to be gone."""

import gc
import importlib.util
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed (extra: explore)", allow_module_level=True)

import plada
from plada.api.explore import open_gallery
from plada.explorer import gallery as galleries
from plada.explorer.gallery import Gallery
from plada.sources.decode import decode
from tests.conftest import picture
from tests.explorer.conftest import Client, serving
from tests.explorer.test_pages import png


class Alive:
    """Pixels of decoded pictures that are still held, and the most there were."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def decode(self, data: bytes) -> Image.Image:
        image = decode(data)
        self._add(image.width * image.height)
        weakref.finalize(image, self._add, -image.width * image.height)
        time.sleep(0.01)
        return image

    def _add(self, pixels: int) -> None:
        with self._lock:
            self.now += pixels
            self.most = max(self.most, self.now)


def test_uploads_hold_the_pixels_of_one_at_a_time(nasty: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = Alive()
    monkeypatch.setattr(galleries, "decode", alive.decode)
    data = png(picture(1, (300, 200)))
    with nasty._searching, ThreadPoolExecutor(20) as threads:  # the encoder is busy: uploads wait behind it
        waiting = [threads.submit(nasty.upload, data) for _ in range(20)]
        time.sleep(1)
        gc.collect()
        assert alive.now == 0
        nasty._searching.release()
        assert len({each.result(timeout=60) for each in waiting}) == 20
        nasty._searching.acquire()
    assert alive.most == 300 * 200


def test_an_upload_that_waits_too_long(nasty: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(galleries, "_PATIENCE", 0.05)
    with nasty._uploading, pytest.raises(plada.errors.RequestError, match="too many pictures"):
        nasty.upload(png(picture(1)))


@contextmanager
def small(pictures: Path, home: Path) -> Iterator[Client]:
    plada.index(pictures, name="small", encoder="gradients", home=home)
    with serving(open_gallery("small", home=home)) as client:
        client.enter()
        assert client.ask("/image/1").status == 200
        yield client


def test_an_index_that_has_gone(pictures: Path, tmp_path: Path) -> None:
    with small(pictures, tmp_path / "h") as client:
        shutil.rmtree(tmp_path / "h" / "indexes" / "small")
        for path in ("/image/3", "/search?q=position:2"):
            answer = client.ask(path)
            if answer.status == 302 or answer.status == 303 or answer.status == 307:
                answer = client.ask(answer.headers["location"])
            assert answer.status == 410, answer.text
            assert "not there any more" in answer.text


def test_an_index_that_is_another_one(pictures: Path, tmp_path: Path) -> None:
    with small(pictures, tmp_path / "h") as client:
        assert not client.gallery.gone
        path = tmp_path / "h" / "indexes" / "small" / "index.json"
        path.write_text(path.read_text().replace(client.gallery.index.info["content_id"], "0" * 64))
        assert client.gallery.gone
