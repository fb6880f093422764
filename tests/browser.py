"""A real browser for tests: headless Chromium, spoken to over two pipes (the DevTools protocol), with nothing to install."""

import base64
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

AXE = ("axe_playwright_python", "axe_core_python")  # packages that bring axe-core along
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads from 3 and writes to 4; whatever has these numbers meanwhile is moved out of the way first.
_START = """
import fcntl, os, sys
here, there = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(here, 3), os.dup2(there, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_PATIENCE = 120.0  # seconds for one answer on a busy machine


class Tab:
    """One page. `errors` are what its console complained of, `requests` the addresses that it asked for."""

    def __init__(self, process: "subprocess.Popen[bytes]", into: int, out: int, downloads: Path) -> None:
        self.downloads = downloads
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._process, self._into, self._out = process, into, out
        self._buffer, self._number, self._session = b"", 0, ""
        self._seen: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{part}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=True)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command of the protocol."""
        self._number += 1
        session = {"sessionId": self._session} if self._session and not method.startswith("Browser.") else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, address: str) -> None:
        """Load a page, and wait until it is there."""
        self._seen.clear()
        self.send("Page.navigate", url=address)
        self.wait_for("Page.loadEventFired")

    def wait_for(self, event: str) -> None:
        while event not in self._seen:
            self._next()

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Press the mouse on the first element of a CSS selector, where a person would see it."""
        at = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1)

    def press(self, key: str, text: str = "") -> None:
        """Press a key, as named by KeyboardEvent.key; Enter needs the text that it types."""
        codes = {"Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, " ": 32}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=codes.get(key, 0), text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes.get(key, 0))

    def downloaded(self, name: str) -> Path:
        """A file that the page has offered, once it is whole."""
        path, end = self.downloads / name, time.monotonic() + _PATIENCE
        while not path.exists() and time.monotonic() < end:
            self.run("new Promise(done => setTimeout(done, 50))")
        assert path.exists(), f"{name} was not downloaded; there are {[p.name for p in self.downloads.iterdir()]}"
        return path

    def show(self, *, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        """Give the window a size, and a scheme of colours."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")

    def picture(
        self, path: Path, *, width: int = 1100, height: int = 900, dark: bool = False, whole: bool = False
    ) -> Path:
        """A PNG of what a window of that size shows, or of the `whole` page."""
        self.show(width=width, height=height, dark=dark)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))
        return path

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._out], [], [], _PATIENCE)
            assert ready, "the browser does not answer"
            piece = os.read(self._out, 1 << 20)
            assert piece, f"the browser has ended with status {self._process.poll()}"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, said: dict[str, Any]) -> None:
        self._seen.append(event)
        if event == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["exceptionDetails"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("warning", "error"):
            self.errors.append(said["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and said["type"] in ("warning", "error", "assert"):
            self.errors.append(json.dumps(said["args"]))


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A tab of a fresh browser whose files lie in `folder`; skips the test where there is no browser."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is installed (Debian: apt install chromium)")
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    command = [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), found, *_FLAGS]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for ours in (theirs_in, theirs_out):
        os.close(ours)
    try:
        yield Tab(process, ours_out, ours_in, downloads)
    finally:
        for ours in (ours_out, ours_in):
            os.close(ours)
        process.terminate()
        process.wait(timeout=_PATIENCE)


def accessibility_violations(tab: Tab) -> list[str]:
    """What axe-core finds wrong with the page that is open, on a phone and on a desktop, light and dark; skips without axe-core."""
    script = next((path for name in AXE if (path := _script_of(name)) is not None), None)
    if script is None:
        pytest.skip(f"axe-core is not installed: pip install {AXE[-1].replace('_', '-')}")
    found = []
    for width, height in ((360, 740), (1100, 900)):
        for dark in (False, True):
            tab.show(width=width, height=height, dark=dark)
            tab.run(script.read_text("utf-8") + "; 0")
            answer = tab.run(
                "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target).join(' ')))"
            )
            found += [f"{width} px, {'dark' if dark else 'light'}: {each}" for each in answer]
    tab.show()
    return found


def _script_of(package: str) -> Path | None:
    """The script of axe-core in a package that brings it along."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / "axe.min.js" if spec is not None and spec.origin else None
    return path if path is not None and path.is_file() else None


def fits_a_phone_and_both_schemes(tab: Tab, picture: Path) -> None:
    """The page that is open is no wider than a phone, and has a ground of its own where dark is asked for."""
    grounds = set()
    for dark in (False, True):
        tab.picture(picture, width=360, height=740, dark=dark)
        assert tab.run("document.documentElement.scrollWidth") <= 360
        grounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    tab.picture(picture)  # wide and light again
