"""Downloads of weights, with the hub's answers played: the cache first, safetensors only, and what to do instead is said."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from plada.encoders.downloads import fetch
from plada.errors import RequestError

Asked = list[tuple[str, str, str | None, bool]]


class EntryNotFoundError(Exception):
    pass


class LocalEntryNotFoundError(EntryNotFoundError):
    pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, bool], str]], Asked]:
    """Puts a hub in place that answers as a function of file and local_files_only does; what it was asked comes back."""

    def play(answer: Callable[[str, bool], str]) -> Asked:
        asked: Asked = []

        def hf_hub_download(repository: str, file: str, *, revision: str | None, local_files_only: bool) -> str:
            asked.append((repository, file, revision, local_files_only))
            return answer(file, local_files_only)

        errors: Any = ModuleType("huggingface_hub.errors")
        errors.EntryNotFoundError, errors.LocalEntryNotFoundError = EntryNotFoundError, LocalEntryNotFoundError
        module: Any = ModuleType("huggingface_hub")
        module.hf_hub_download, module.errors = hf_hub_download, errors
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
        return asked

    return play


def ask(repository: str = "own/er") -> Path:
    return fetch(repository, ["a.safetensors", "b.safetensors"], encoder="timm:x", tag="t")


def test_what_is_in_the_cache_needs_no_network(hub: Any) -> None:
    asked = hub(lambda file, local: f"/cache/{file}")
    assert ask("own/er@abc") == Path("/cache/a.safetensors")
    assert asked == [("own/er", "a.safetensors", "abc", True)]


def test_the_second_name_serves_where_there_is_no_first(hub: Any) -> None:
    def answer(file: str, local: bool) -> str:
        if local:
            raise LocalEntryNotFoundError
        if file == "a.safetensors":
            raise EntryNotFoundError
        return f"/cache/{file}"

    asked = hub(answer)
    assert ask() == Path("/cache/b.safetensors")
    assert [(file, local) for _, file, _, local in asked] == [
        ("a.safetensors", True), ("b.safetensors", True), ("a.safetensors", False), ("b.safetensors", False),
    ]  # fmt: skip
    assert asked[0][2] is None


def test_without_a_network_it_says_what_to_copy(hub: Any) -> None:
    def answer(file: str, local: bool) -> str:
        raise LocalEntryNotFoundError("offline\nand more")

    hub(answer)
    with pytest.raises(RequestError, match=r"no network to download its weights \(offline\)") as caught:
        ask()
    assert "download a.safetensors of huggingface.co/own/er" in str(caught.value)
    assert "--weights FILE --tag t" in str(caught.value)


def test_no_safetensors_means_no_weights(hub: Any) -> None:
    def answer(file: str, local: bool) -> str:
        raise (LocalEntryNotFoundError if local else EntryNotFoundError)

    hub(answer)
    with pytest.raises(RequestError, match=r"no weights in safetensors \(a\.safetensors, b\.safetensors\).*no pickles"):
        ask()


@pytest.mark.parametrize(("error", "said"), [(OSError("disk full\nx"), "disk full"), (RuntimeError(), "RuntimeError")])
def test_any_other_failure_is_said_in_one_line(hub: Any, error: Exception, said: str) -> None:
    def answer(file: str, local: bool) -> str:
        raise error

    hub(answer)
    with pytest.raises(RequestError, match=rf"its weights cannot be downloaded \({said}\)") as caught:
        ask()
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
