"""The benchmark of the server, in small: what it counts, and what the server promises."""

import importlib.util
import json
from pathlib import Path

import pytest

if importlib.util.find_spec("cryptography") is None:
    pytest.skip("cryptography is not installed (extra: sign)", allow_module_level=True)

from benchmarks import server
from benchmarks.server_material import CountingProxy, static_server, task_of, updated


def test_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("raptorq", reason="raptorq is not installed")
    monkeypatch.setattr(server, "TRIALS", 10)
    monkeypatch.setattr(server, "VERSIONS", 3)
    monkeypatch.setattr(server, "PULLS", 6)
    links = len(server.LINKS)
    server.main(["--clients", "5", "--links", str(links), "--out", str(tmp_path / "b.md"), "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["payload_bytes"] <= 1000
    assert figures["first_pull_bytes"] <= figures["payload_bytes"] + 2500
    assert figures["update_bytes"] <= 0.4 * figures["first_pull_bytes"]
    assert (figures["clients_right"], figures["links_wrong"], figures["mixed"]) == (5, 0, 0)
    assert figures["resumed"] == links
    assert figures["rollbacks_refused"] == figures["lies"] == 12
    assert figures["carousel_received"] <= 1.15
    text = (tmp_path / "b.md").read_text()
    assert "<!-- server: written by the benchmark -->" in text
    assert "BELIEVED" not in text


def test_the_proxy_counts_what_goes_by(tmp_path: Path) -> None:
    from urllib.request import urlopen

    (tmp_path / "x").write_bytes(b"y" * 5000)
    with static_server(tmp_path) as running:
        proxy = CountingProxy(running.port)
        with urlopen(f"{proxy.url}/x") as answer:
            lines = [f"{name}: {value}" for name, value in answer.headers.items()]
            assert len(answer.read()) == 5000
        assert proxy.received == 5000 + sum(len(line) + 2 for line in ["HTTP/1.0 200 OK", *lines, ""])
        assert 80 < proxy.sent < 200
        assert proxy.take() > 5000
        assert proxy.take() == 0
        proxy.close()
        assert running.peak_memory() >= 0


def test_the_payloads() -> None:
    first = task_of(1000)
    assert 990 < len(first.encode()) <= 1000
    second = updated(first, 0.02)
    assert len(second) == len(first)
    kept = set(first.positions.tolist()) & set(second.positions.tolist())
    assert len(first) - len(kept) == round(0.01 * len(first))
