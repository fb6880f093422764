"""Documents say what is: generated pages are not stale, links lead somewhere, commands and options exist."""

import ast
import importlib.util
import itertools
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plada import errors
from plada.cli import app
from tests.docs import documents
from tests.docs.documents import GENERATED, HISTORY, LANGUAGES, PYTHON, REASONS, ROOT, SHELL, Block

PAGES = documents.documents()

# Blocks that are not run, by document. A new one is added here by hand, so that marks do not spread unseen.
NOT_RUN = {
    "README.md": 3,
    "bench.md": 2,
    "clients.md": 6,
    "encoders.md": 2,
    "explore.md": 2,
    "indexing.md": 1,
    "installing.md": 6,
    "log.md": 1,
    "operations.md": 3,
    "quickstart.md": 1,
    "rules.md": 1,
    "selecting.md": 1,
    "server.md": 5,
}


@cache
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "datasets.md", "errors.md"])
def test_a_generated_page_is_not_stale(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generator().PAGES[name](), f"docs/{name} is stale: run python docs/generate.py"


def kinds() -> list[type[errors.PladaError]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PladaError)
    ]  # fmt: skip


def test_every_error_has_its_own_remedy_and_stands_in_the_page() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for kind in kinds():
        assert "remedy" in vars(kind), kind
        assert f"`{kind.__name__}`" in page
        assert f"\n## {kind.__name__}\n" in page
        assert f"{kind.__name__} " in (errors.__doc__ or ""), f"{kind.__name__} is not in the tree that errors.py shows"
    assert len({kind.remedy for kind in kinds()}) == len(kinds())


def made_in(source: str) -> list[str]:
    """The classes of the errors that a module makes, by a way of its own."""
    return re.findall(
        r"(?<![\w.\"'`])(" + "|".join(kind.__name__ for kind in kinds()) + r")\((?!Pla|Pay|\w+Error\))", source
    )


def test_the_page_has_every_message_of_the_source() -> None:
    made = {
        path: made_in(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "plada").rglob("*.py"))
        if path.name != "errors.py"
    }
    listed = generator().messages()
    assert {kind for path in made.values() for kind in path} == {message.kind for message in listed}
    # Some places hand on another's text and a few say the same; more than that would be a message that was not read.
    assert sum(map(len, made.values())) - len(listed) <= 30
    assert all(len(message.cause) > 8 for message in listed)
    assert not [message for message in listed if "<>" in message.cause + message.remedy]


def test_topics_name_places_that_there_are() -> None:
    module = sys.modules["error_messages"]
    for place in itertools.chain(*module.TOPICS.values()):
        assert (ROOT / "plada" / place.replace(".", "/")).is_dir() or module_file(place).exists(), place
    assert module.topic_of("plada.retrieval.check") == "Indexing, encoders, packs"
    assert module.topic_of("plada.retrieval.index") == "Searching an index"
    assert module.topic_of("plada.common.files") == module.ELSEWHERE


def module_file(place: str) -> Path:
    return ROOT / "plada" / f"{place.replace('.', '/')}.py"


REFUSED = {
    "RequestError": ["select", "--target", "digits", "--budget", "many"],
    "UnknownName": ["index", "glyphs", "--engine", "tractor"],
    "DataError": ["index", ".", "--encoder", "gradients"],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_command_says_is_in_the_page(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "readme.txt").write_text("no image")
    done = CliRunner().invoke(app, REFUSED[kind])
    said = done.stderr.strip().removeprefix("plada: ")
    assert done.exit_code == getattr(errors, kind).exit_code
    listed = [message for message in generator().messages() if message.kind == kind]
    # What is not filled in is most of it: a message of nothing but names would fit everything.
    fixed = {m: len(re.sub(r"<[^<>]+>", "", m.cause + m.remedy)) for m in listed if pattern(m).fullmatch(said)}
    assert max(fixed.values(), default=0) > len(said) / 3, (said, fixed)


def pattern(message: Any) -> re.Pattern[str]:
    """A pattern that the texts of a message fit: each <name> may be anything."""
    whole = f"{message.cause}. {message.remedy}" if message.remedy else message.cause
    parts = re.split(r"<[^<>]+>|\[[^\[\]]*\]", whole)
    return re.compile(r".*?".join(map(re.escape, parts)) + r"\.?", re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path, path.read_text(encoding="utf-8")) == []


def dead_links(path: Path, text: str) -> list[str]:
    dead = []
    for link in documents.links(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = link.partition("#")
        to = path.parent / file if file else path
        if not file or to.exists():
            page = to.read_text(encoding="utf-8") if to.suffix == ".md" and file else text
            found = not anchor or (to.suffix == ".md" and anchor in documents.anchors(page))
        else:
            found = False
        if not found:
            dead.append(link)
    return dead


def test_every_page_is_reached_from_the_readme() -> None:
    readme = {link.partition("#")[0] for link in documents.links((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - readme == set()


def test_what_operations_calls_measured_was_measured() -> None:
    text = {
        name: (ROOT / "docs" / name).read_text(encoding="utf-8")
        for name in ("operations.md", "benchmarks.md", "log.md")
    }
    measured = set(numbers(text["benchmarks.md"]) + numbers(text["log.md"]))
    rows = [
        line.split("|")[1:-1] for line in text["operations.md"].splitlines() if re.search(r"\| measured.*\|$", line)
    ]
    assert len(rows) >= 12
    for what, figure, _ in rows:
        assert set(numbers(figure)) <= measured, f"operations.md, {what.strip()}: {figure.strip()}"


@pytest.mark.parametrize("page", ["README.md", "docs/limits.md", "docs/clients.md", "docs/concepts.md"])
def test_figures_of_a_page_were_measured(page: str) -> None:
    assert figures_without_a_source(documents.prose((ROOT / page).read_text(encoding="utf-8"))) == []


def figures_without_a_source(text: str) -> list[str]:
    """Numbers with a decimal point that neither benchmarks.md nor log.md has; addresses and numbers of papers do not count."""
    sources = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("benchmarks.md", "log.md")]
    measured = set(numbers("\n".join(sources)))
    plain = re.sub(r"arXiv[ :][\d.]+|\]\([^)]*\)", "", text)
    return [figure for figure in re.findall(r"\d+\.\d+", plain) if figure not in measured]


def test_a_figure_that_nobody_measured_is_found() -> None:
    assert figures_without_a_source("At 64 dimensions 0.456, at 32 12345.6 (arXiv 2602.23358).") == ["12345.6"]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d)[ ,](?=\d{3}\b)", "", text))


def test_a_dead_link_is_found() -> None:
    text = (
        "# A page\n\n[one](gone.md) [two](#a-page) [three](#another) [four](README.md#install) [five](README.md#gone)"
    )
    assert dead_links(ROOT / "page.md", text) == ["gone.md", "#another", "README.md#gone"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_code_in_a_document_is_true(path: Path) -> None:
    assert wrong(path, path.read_text(encoding="utf-8")) == []


def wrong(path: Path, text: str) -> list[str]:
    """Everything in a document that the program does not have, or that nobody could check."""
    found = [f"{block}: {each}" for block in documents.blocks(path, text) for each in wrong_in_block(block)]
    if path.name in GENERATED:
        return found
    found += [
        f"{path.name}: {line.strip()}: a command belongs into a block of {SHELL}"
        for line in documents.prose(text).splitlines()
        if re.match(r"(?: {4,}|\t)(?:\$ |plada |python |pip |make )", line)
    ]
    if path.name not in HISTORY:
        spans = documents.spans(text)
        found += [f"{path.name}: `{span}`: {each}" for span in spans if (each := documents.fault_of_span(span))]
    if path.name not in HISTORY - {"CHANGELOG.md"}:
        found += [f"{path.name}: {each}" for each in documents.stale_places(documents.prose(text))]
    return found


def wrong_in_block(block: Block) -> list[str]:
    found = []
    if block.language not in LANGUAGES and block.path.name not in HISTORY:
        found.append(f"a block of '{block.language}'; expected one of {', '.join(sorted(LANGUAGES))}")
    if block.mark is not None and not (block.mark.startswith(REASONS) and len(block.mark.split()) >= 3):
        found.append(f"not run: '{block.mark}'; expected a reason that begins with one of {', '.join(REASONS)}")
    if block.language == PYTHON:
        found += documents.faults_of_python(block)
    if block.language == SHELL or block.path.name in HISTORY:
        for line in documents.lines_of_shell(block.text):
            found += [f"{line}: {each}" for words in documents.commands(line) if (each := documents.fault(words))]
            found += wrong_script(line)
    return found


def wrong_script(line: str) -> list[str]:
    """A program of this repository that is not there, or has not the options that a line gives it."""
    script = re.search(r"python (?:-m )?([\w./-]+\.py)((?: [^#|;>]*)?)", line)
    if script is None or script[1].startswith("../") or "/" not in script[1]:
        return []
    if not (ROOT / script[1]).exists():
        return [f"there is no {script[1]}"]
    source = "".join(path.read_text() for path in (ROOT / script[1]).parent.glob("*.py"))
    return [f"{script[1]} has no {option}" for option in re.findall(r" (--[a-z-]+)", script[2]) if option not in source]


def test_marks_do_not_spread() -> None:
    marked = {path.name: [block for block in documents.blocks(path) if block.mark is not None] for path in PAGES}
    assert {name: len(found) for name, found in marked.items() if found} == NOT_RUN


STALE = {
    "an option that there is not": "```sh\nplada index photos --encodr gradients\n```",
    "an option of another command": "```sh\nplada index photos --budget 1MB\n```",
    "a command that there is not": "```sh\nplada choose --target digits\n```",
    "an option without which it does not go": "```sh\nplada select --budget 1MB\n```",
    "a value that is no number": "```sh\nplada search dog.jpg -k many\n```",
    "the second command of a line": "```sh\nplada index photos; plada inspect --gone\n```",
    "a continued line": "```sh\nplada index photos \\\n    --gone\n```",
    "behind a pipe": "```sh\nplada inspect a.plada --json | plada train --gone\n```",
    "behind another program": "```sh\ntorchrun --nproc-per-node 8 -m plada train a.plada --gone\n```",
    "in a block that is not run": "<!-- not run: needs a GPU to run -->\n```sh\nplada index photos --gone\n```",
    "an ellipsis for what is left out": "```sh\nplada sign ... --sign key\n```",
    "an option in the prose": "Say `plada verify NAME --depth`.",
    "an option alone": "Say `--gone`.",
    "a command in the prose": "Say `plada choose`.",
    "a name in the prose": "Call `plada.gone(1)`.",
    "an argument in Python": '```python\nplada.select("characters", targt="digits")\n```',
    "a name in Python": '```python\nplada.choose("characters")\n```',
    "a block without a language": "```\nplada index photos\n```",
    "a mark without a reason": "<!-- not run: later -->\n```sh\nplada doctor\n```",
    "a command that is only indented": "So:\n\n    plada index photos\n",
    "a script that there is not": "```sh\npython benchmarks/gone.py\n```",
    "a module that there is not": "It lies in plada/selection/chooser.py.",
    "a module of a room": "It lies in `sources/decoder.py`.",
    "a module by its dotted name": "See plada.sources.decoder.",
    "a name of a module": "See plada.sources.decode.decoded_twice.",
    "a room that there is not": "It lies in `plada/choosing`.",
    "an option of a script": "```sh\npython benchmarks/sources.py --gone\n```",
}


@pytest.mark.parametrize("what", STALE)
def test_what_is_stale_is_found(what: str) -> None:
    assert len(wrong(ROOT / "docs" / "page.md", f"# Page\n\n{STALE[what]}\n")) == 1


def test_what_is_true_passes() -> None:
    text = (
        "# Page\n\nplada/sources/decode.py and plada.sources.decode.decode stand in plada/sources/formats and `plada/sources/`. "
        "Say `plada index NAME --check`, `--drop-leaks`, `plada COMMAND --help`, `plada.select(...)`, `-k 20`.\n\n"
        "```sh\n# first\nplada index photos --encoder gradients # a comment: --gone\n"
        "X=1 plada search 'a red bus' -k 20 | head -3 && plada --version\npip install plada\n```\n"
        "<!-- not run: needs a GPU -->\n\n```sh\ntorchrun --nproc-per-node 8 -m plada train a.plada\n```\n"
        '```python\nimport plada\n\nplada.select("characters", target="digits")\n```\n```text\nplada 0.1 --gone\n```\n'
    )
    assert wrong(ROOT / "docs" / "page.md", text) == []


def test_python_that_does_not_compile_is_found() -> None:
    with pytest.raises(SyntaxError):
        ast.parse(documents.blocks(ROOT / "page.md", "```python\nplada.select(\n```\n")[0].text)


def rendered(*command: str) -> str:
    """What a command prints, without spaces: lines are broken at hyphens too."""
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    return "".join(shown.stdout.split())


@pytest.mark.parametrize("name", sorted(each.name or "" for each in app.registered_commands))
def test_help_shows_what_the_page_of_commands_says(name: str) -> None:
    """Word for word: whoever renders help leaves out no note such as [default: ...]."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## plada {name}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", section, re.MULTILINE)
    shown = rendered(name, "--help")
    assert rendered(name, "-h") == shown
    assert rows
    for option, words in rows:
        text, _, default = words.replace("\\|", "|").removesuffix(" Required.").partition(" [default: ")
        assert "".join(text.split()) in shown, (option, text)
        if "--no-" in option and default == "True]":
            default = option.partition("/")[0].removeprefix("--")
        # Click writes the limits of a number into the same brackets.
        assert not default or f"[default:{default.removesuffix(']')}".replace(" ", "") in shown, (option, default)
