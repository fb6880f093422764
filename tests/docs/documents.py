"""What documents hold: blocks of code, commands and links, found by their Markdown, and compared with the program."""

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

import plada
from plada.cli import app

ROOT = Path(__file__).resolve().parents[2]

SHELL, PYTHON = "sh", "python"
LANGUAGES = {SHELL, PYTHON, "text", "json", "toml", "dockerfile", "c"}  # the others are looked at, not run
MARK = re.compile(r"<!-- not run: (.*?) -->")
REASONS = ("downloads ", "needs ", "takes ", "installs ")  # a mark begins with one of these and goes on

# What changed, or was printed by a benchmark; commands in it parse today, but nobody keeps the data beside it.
HISTORY = {"benchmarks.md", "CHANGELOG.md"}
GENERATED = {"commands.md", "errors.md"}

METADATA = {"key_id", "content_id", "encoder", "manifest"}  # `plada.key_id`: names in the footers of Parquet files

# Options of other programs that documents name, and files of other projects.
FOREIGN = {"--nproc-per-node", "--gpus", "--shm-size", "--user"}
FOREIGN_FILES = {"medmnist/info.py"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document; `line` is that of its first line, `mark` the reason why it is not run."""

    path: Path
    line: int
    language: str
    text: str
    mark: str | None

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def documents() -> list[Path]:
    """README and its like, and every page of docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, text: str | None = None) -> list[Block]:
    """The fenced blocks of a document; a mark stands on the last line above the fence that is not empty."""
    lines = (path.read_text(encoding="utf-8") if text is None else text).splitlines()
    found, at = [], 0
    while at < len(lines):
        fence = re.match(r"( *)(```+)(.*)$", lines[at])
        if not fence:
            at += 1
            continue
        end = next(row for row in range(at + 1, len(lines)) if lines[row].strip() == fence[2])
        above = next((line for line in reversed(lines[:at]) if line.strip()), "")
        mark = MARK.fullmatch(above.strip())
        inside = "".join(line.removeprefix(fence[1]) + "\n" for line in lines[at + 1 : end])
        found.append(Block(path, at + 2, fence[3].strip(), inside, mark[1] if mark else None))
        at = end + 1
    return found


def prose(text: str) -> str:
    """A document without its blocks, each line of a block left empty."""
    return re.sub(
        r"^ *```.*?^ *```+ *$", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE
    )


def spans(text: str) -> list[str]:
    """Code within the prose: `plada index`. A span does not go beyond its paragraph or its row of a table."""
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=\|)", prose(text)):
        found += [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", paragraph)]
    return [span.replace("\\|", "|") for span in found]


def lines_of_shell(text: str) -> list[str]:
    """The commands of a shell block as they are typed, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def commands(line: str) -> list[list[str]]:
    """The words of every plada command in a line of shell, without `plada` itself."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    reader.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in reader:
        if set(word) <= set(";&|<>()"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [part[at + 1 :] for part in parts if (at := _where(part)) is not None]


def _where(words: list[str]) -> int | None:
    """Where `plada` stands in a command: first, behind settings of the environment, or behind -m."""
    for at, word in enumerate(words):
        if word == "plada" and (at == 0 or words[at - 1] == "-m" or all("=" in before for before in words[:at])):
            return at
        # torchrun, pipx run, docker run IMAGE: behind their own words.
        if word == "plada" and at + 1 < len(words) and words[at + 1] in known_commands():
            return at
    return None


@cache
def known_commands() -> dict[str, Any]:
    """Every command by its name, as the command line has it; `plada` without a command by the empty name."""
    group: Any = typer.main.get_command(app)
    return {"": group, **group.commands}


def fault(words: list[str]) -> str | None:
    """Why the command line refuses these words; None if it takes them. Nothing is run."""
    if not words:
        return "no command"
    if words[0].startswith("-"):
        return None if words[0] in options_of("") else f"plada has no option {words[0]}"
    if words[0] not in known_commands():
        return f"there is no command {words[0]}"
    try:
        known_commands()[words[0]].make_context(words[0], list(words[1:]))
    except Exception as err:
        return str(err) or type(err).__name__
    return None


@cache
def options_of(command: str | None = None) -> set[str]:
    """The options of a command, or of all."""
    kinds = known_commands().values() if command is None else [known_commands()[command]]
    named = {
        option for kind in kinds for parameter in kind.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    return {option for option in named if option.startswith("-")} | {"--help"}


def fault_of_span(span: str) -> str | None:
    """Why a piece of code within the prose is wrong: a command, an option or a Python name that there is not."""
    words = span.split()
    if "\\0" in span:
        return None  # what a hash begins with, not a command
    if span.startswith("-"):
        option = re.split(r"[ =]", span)[0]
        return None if option in options_of() | FOREIGN else f"no command has the option {option}"
    if words[0] == "plada" and len(words) > 1:
        if words[1] not in known_commands():
            plain = words[1].isupper() or words[1].startswith("-")  # plada COMMAND --help, plada --version
            return None if plain else f"there is no command {words[1]}"
        used = {re.split(r"[=]", word)[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        wrong = used - options_of(words[1])
        return f"plada {words[1]} has no option {', '.join(sorted(wrong))}" if wrong else None
    call = re.match(r"plada\.([a-zA-Z_]+)\b(?!\.)", span)
    if call and call[1] not in METADATA and not hasattr(plada, call[1]) and not (ROOT / "plada" / call[1]).exists():
        return None if (ROOT / "plada" / f"{call[1]}.py").exists() else f"plada has no {call[1]}"
    return None


@cache
def sources() -> frozenset[str]:
    """Every Python file of the repository."""
    return frozenset(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts)


def stale_places(text: str) -> Iterator[str]:
    """Modules that a document names (`plada/sources/decode.py`, `sources/decode.py`, `plada.sources.decode`) and there are not."""
    for file in re.findall(r"[\w./-]*\w\.py\b", text):
        known = any(each == file or each.endswith(f"/{file}") for each in sources())
        if not known and file not in FOREIGN_FILES and not file.startswith("../"):
            yield f"there is no {file}"
    for name in re.findall(r"\bplada(?:\.\w+){2,}", text):
        place, inner = ROOT / "plada", name.split(".")[1:]
        while inner and (place / inner[0]).is_dir():
            place /= inner.pop(0)
        module = place / f"{inner[0]}.py" if inner else place
        public = place == ROOT / "plada" and hasattr(plada, inner[0]) if inner else True
        if not (module.exists() or public) or (
            module.is_file() and len(inner) > 1 and not re.search(rf"\b{inner[1]}\b", module.read_text("utf-8"))
        ):
            yield f"there is no {name}"
    for folder in re.findall(r"\bplada/[\w/]+(?![\w/.*-])", text):
        if not (ROOT / folder).is_dir():
            yield f"there is no {folder}"


def faults_of_python(block: Block) -> Iterator[str]:
    """Names of `plada.` in a block that there are not, and arguments that they do not take."""
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _of_plada(node) and not hasattr(plada, node.attr):
            yield f"plada has no {node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _of_plada(node.func):
            called = getattr(plada, node.func.attr, None)
            known = inspect.signature(called).parameters if callable(called) else {}
            unknown = [word.arg for word in node.keywords if word.arg is not None and word.arg not in known]
            yield from (f"plada.{node.func.attr} has no argument {word}" for word in unknown if known)


def _of_plada(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "plada"


def links(text: str) -> list[str]:
    """Where the links and pictures of a document lead."""
    return re.findall(r"\]\(([^)\s]+)", re.sub(r"`[^`\n]*`", "", prose(text)))


def anchors(text: str) -> set[str]:
    """The names under which GitHub keeps a document's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?)\s*$", prose(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        plain = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        name, number = plain, 0
        while name in found:
            number += 1
            name = f"{plain}-{number}"
        found.add(name)
    return found
