"""The messages of plada's errors, read from its source: every place where an error of plada/errors.py is made."""

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from plada import errors

PACKAGE = Path(errors.__file__).parent
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.PladaError)
}  # fmt: skip

# Rooms of the package, and modules of rooms, by what a user is doing. A module goes before its room.
TOPICS = {
    "Collections, targets, files of images": (
        "sources", "selection.leaks", "common.units", "api.datasets", "api.verify",
    ),
    "Indexing, encoders, packs": (
        "indexer", "encoders", "networks.network", "retrieval.check", "api.index", "api.pack",
    ),
    "Searching an index": ("retrieval", "explorer", "api.search", "api.explore"),
    "Teachers": ("labeler",),
    "Choosing": ("selection", "api.select"),
    "The payload file": (
        "payload", "trainer.payload_context", "trainer.payload_file", "trainer.payload_images", "api.payload", "api.inspect", "api.diff", "api.sign",
    ),
    "Training, testing, exporting": (
        "trainer", "networks", "api.train", "api.predict", "api.evaluate", "api.export",
    ),
    "Reports": ("reports", "api.report"),
    "The benchmark": ("benchmark", "api.bench"),
}  # fmt: skip
ELSEWHERE = "Every command"

_DEPTH = 4  # names that stand for other names are followed so far
_REASONS = {"err", "error", "line", "reason", "strerror", "why"}


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """What an error says, with `<names>` for what it fills in; `remedy` is its last sentences, if it has any of its own."""

    kind: str
    topic: str
    cause: str
    remedy: str


@cache
def messages() -> list[Message]:
    """Every message once, sorted by class and topic, in the order of the source within."""
    found: dict[Message, None] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "errors.py":
            found.update(dict.fromkeys(_of_file(path)))
    order = [*TOPICS, ELSEWHERE]
    return sorted(found, key=lambda each: (list(KINDS).index(each.kind), order.index(each.topic)))


def _of_file(path: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    topic = topic_of(module)
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for scope in (tree, *scopes):
        for call in _calls(scope):
            if isinstance(call.func, ast.Name) and call.func.id in KINDS:
                for text in _Reader(module, tree, scope).said(call):
                    cause, remedy = _parted(" ".join(text.split()))
                    if re.search(r"\w", re.sub(r"<[^<>]+>", "", cause)):  # else another error's text is handed on
                        yield Message(call.func.id, topic, cause, remedy)


def topic_of(module: str) -> str:
    """The topic of `plada.api.select`: its own, else that of its room."""
    _, room, *inner = module.split(".")
    for place in (".".join((room, *inner[:1])), room):
        for topic, places in TOPICS.items():
            if place in places:
                return topic
    return ELSEWHERE


def _calls(scope: ast.AST) -> Iterator[ast.Call]:
    """Calls in a function, or in a module, but not in functions inside it; in the order of the source."""
    below = []
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.Call):
            below.append(child)
        if not isinstance(child, ast.FunctionDef):
            below.extend(_calls(child))
    yield from sorted(below, key=lambda call: (call.lineno, call.col_offset))


def _parted(text: str) -> tuple[str, str]:
    """What is wrong, and what to do: the sentences behind the first."""
    text = re.sub(r"(?<!\.)\.$", "", text)
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if not depth and sign == "." and re.match(r"\. [A-Z`<-]", text[at : at + 3]):
            return text[:at], text[at + 2 :]
    return text, ""


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns expressions of a function (`scope`) into text, as far as the source says what they are."""

    module: str
    tree: ast.Module
    scope: ast.AST

    def said(self, call: ast.Call) -> Iterator[str]:
        """What an error that is made so says; several texts where the source has several."""
        kind = KINDS[getattr(call.func, "id", "")]
        named = {word.arg: self.text(word.value) for word in call.keywords if word.arg}
        for first in self.texts(call.args[0]) if call.args else [None]:
            given: list[object] = [first, *(self.text(each) for each in call.args[1:])] if first is not None else []
            if kind is errors.UnknownName:
                given[2] = [str(given[2])]
            text = str(kind(*given, **named))
            if kind is errors.UnknownName:  # a nearest name is said where there is one
                text = re.sub(r"; did you mean '[^']*'\?", "", text).replace(
                    "; known:", "[; did you mean '<nearest>'?]; known:"
                )
            yield text

    def texts(self, node: ast.expr, depth: int = 0) -> list[str]:
        """The texts that a whole message may be."""
        if depth < _DEPTH:
            if isinstance(node, ast.IfExp):
                return [*self.texts(node.body, depth + 1), *self.texts(node.orelse, depth + 1)]
            values: list[ast.expr] = []
            if isinstance(node, ast.Name):
                values = self.assigned(node.id)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                values = self.returned(node.func.id)
            if values:
                return [text for value in values for text in self.texts(value, depth + 1)]
        return [self.text(node)]

    def text(self, node: ast.expr, depth: int = 0) -> str:
        """One text for an expression; what is only known when it runs is a <name>."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else repr(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.text(part, depth) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.text(node.value, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and self.is_text(node, depth):
            return self.text(node.left, depth) + self.text(node.right, depth)
        if isinstance(node, ast.IfExp):
            ways = [self.text(node.body, depth), self.text(node.orelse, depth)]
            return f"[{'|'.join(way for way in ways if way)}]" if all(map(_short, ways)) else f"<{_name(node.body)}>"
        if isinstance(node, ast.Name) and depth < _DEPTH:
            if node.id.isupper():
                return self.constant(node.id)
            values = self.assigned(node.id)
            if len(values) == 1 and self.is_text(values[0], depth):
                return self.text(values[0], depth + 1)
        if isinstance(node, ast.Call) and (joined := _joined(node)):
            between, name = joined
            return self.constant(name, between) if name.isupper() else f"<{_plain(name)}, ...>"
        return f"<{_name(node)}>"

    def is_text(self, node: ast.expr, depth: int) -> bool:
        """Whether an expression is put together from text, and so is worth showing."""
        if isinstance(node, ast.BinOp):
            return self.is_text(node.left, depth) or self.is_text(node.right, depth)
        if isinstance(node, ast.IfExp):
            return self.is_text(node.body, depth) and self.is_text(node.orelse, depth)
        return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))

    def constant(self, name: str, between: str = ", ") -> str:
        """The value of a module's constant, of several texts all with `between` between them."""
        module = self.module
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
                module = node.module or module
        value = getattr(importlib.import_module(module), name)
        if isinstance(value, (str, int, float)):
            return f"{value}"
        if isinstance(value, (tuple, list, frozenset, set, dict)) and all(isinstance(each, str) for each in value):
            return between.join(sorted(value) if isinstance(value, (set, frozenset)) else value)
        return f"<{_plain(name)}>"

    def assigned(self, name: str) -> list[ast.expr]:
        """What a name of this function is set to, where all of it is text."""
        values = [
            node.value
            for node in ast.walk(self.scope)
            if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
        ]
        return values if values and all(self.is_text(value, 0) for value in values) else []

    def returned(self, name: str) -> list[ast.expr]:
        """What a function of this module returns, where it is text."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef) and node.name == name:
                values = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
                return values if all(self.is_text(value, 0) for value in values) else []
        return []


def _short(text: str) -> bool:
    return len(text) <= 140 and "[" not in text


def _joined(node: ast.Call) -> tuple[str, str] | None:
    """What stands between the texts and the name that holds them, for `", ".join(NAME)` and `" ".join(sorted(NAME))`."""
    if not (isinstance(node.func, ast.Attribute) and node.func.attr == "join" and len(node.args) == 1):
        return None
    inner = node.args[0]
    if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "sorted":
        inner = inner.args[0]
    between = node.func.value.value if isinstance(node.func.value, ast.Constant) else ", "
    return (str(between), inner.id) if isinstance(inner, ast.Name) else None


def _plain(name: str) -> str:
    return name.strip("_").lower().replace("_", " ")


def _name(node: ast.expr) -> str:
    """A word for what stands in a message's place."""
    if isinstance(node, ast.Name):
        return "reason" if node.id in _REASONS else _plain(node.id)
    if isinstance(node, ast.Attribute):
        if node.attr == "__name__":
            return "type"
        return "reason" if node.attr in _REASONS else _plain(node.attr)
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Subscript):
        key = node.slice
        named = isinstance(key, ast.Constant) and isinstance(key.value, str)
        return str(key.value).replace("_", " ") if named and isinstance(key, ast.Constant) else _name(node.value)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == "len" and node.args:
            return f"number of {_name(node.args[0])}"
        if node.args and not isinstance(node.args[0], (ast.GeneratorExp, ast.ListComp)):
            return _name(node.args[0])
        return (
            _name(node.args[0])
            if node.args
            else _name(node.func.value if isinstance(node.func, ast.Attribute) else node.func)
        )
    if isinstance(node, (ast.GeneratorExp, ast.ListComp)):
        return f"{_name(node.generators[0].iter)}, ..."
    if isinstance(node, ast.BinOp):
        return _name(node.left)
    if isinstance(node, ast.IfExp):
        return _name(node.body)
    if isinstance(node, ast.BoolOp):
        return _name(node.values[0])
    if isinstance(node, (ast.List, ast.Tuple)) and node.elts:
        return _name(node.elts[0]).lower()
    if isinstance(node, ast.Starred):
        return _name(node.value)
    return "value"
