"""Writes the asyncio classes from the blocking ones, and ``_batch_calls.py`` from ``_sync.py``.

A blocking class is the only place where the public calls are written down. The asyncio class
is the same text with ``async`` and ``await`` where they belong, and other bases; a batch has the
writes, which collect instead of waiting. Run it as ``python client/generate_async.py``; with
``--check`` it changes nothing and fails if a file is not current.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

PACKAGE: Final = Path(__file__).parent / "sessiond_client"
GATEWAY: Final = PACKAGE / "gateway"
SOURCE: Final = PACKAGE / "_sync.py"

# What waits in the base class.
WAITING: Final = frozenset({"_run", "_count"})

NAMES: Final = {
    "SessionDB": "AsyncSessionDB",
    "BlockingStore": "AsyncStore",
    "Batch": "AsyncBatch",
    "Future": "WriteFuture",
    "Iterator": "AsyncIterator",
    "Watching": "AsyncWatching",
    "SessionStore": "AsyncSessionStore",
    "BlockingGateway": "AsyncGateway",
}
MODULES: Final = {
    "concurrent.futures": "sessiond_client._asyncio",
    "sessiond_client._watching": "sessiond_client._loop_watching",
    "sessiond_client._blocking": "sessiond_client._asyncio",
    "sessiond_client.gateway._blocking": "sessiond_client.gateway._asyncio",
}


class Twin(NamedTuple):
    """A blocking module, its asyncio twin, and what the twin says of itself.

    ``sentences``: what the class says of itself and is different with asyncio.
    """

    source: Path
    target: Path
    what: str
    sentences: Mapping[str, str]


CLIENT_SENTENCES: Final = {
    "any number of threads may use one object. Usable as a context manager.": (
        "any number of tasks may use one object, on one event loop. Usable with ``async with``.\n"
        "\n"
        "    A call that is cancelled before it was sent is never sent. A write that was sent may\n"
        "    still be applied: its ``CancelledError`` then has the attribute ``data`` with the\n"
        "    arguments of :meth:`request_status`."
    ),
}
STORE_SENTENCES: Final = {
    "Both are plain functions.": "Both may be coroutine functions.",
    "Any number of threads may use one store. Usable as a context manager.": (
        "Any number of tasks may use one store, on one event loop. Usable with\n    ``async with``."
    ),
}

TWINS: Final = (
    Twin(
        SOURCE,
        PACKAGE / "_async.py",
        "``AsyncSessionDB``: the asyncio client.",
        CLIENT_SENTENCES,
    ),
    Twin(
        GATEWAY / "store.py",
        GATEWAY / "async_store.py",
        "``AsyncSessionStore``: the asyncio store.",
        STORE_SENTENCES,
    ),
)

# The writes that one atomic request may hold.
WRITES: Final = (
    "create_session",
    "ensure_session",
    "end_session",
    "reopen_session",
    "update_system_prompt",
    "delete_session",
    "update_token_counts",
    "set_token_counts",
    "set_session_title",
    "append_message",
    "append_messages",
    "replace_messages",
    "clear_messages",
)

ORIGIN: Final = "Generated from ``{}`` by ``client/generate_async.py``: change it there."


def async_text(twin: Twin) -> str:
    """The module of an asyncio class."""
    source = twin.source.read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    for line, column, old, new in sorted(_edits(tree), reverse=True):
        text = lines[line - 1]
        at = len(text.encode()[:column].decode())
        if not text.startswith(old, at):
            raise ValueError(
                f"line {line} of {twin.source.name} has no {old!r} at {column}: {text}"
            )
        lines[line - 1] = text[:at] + new + text[at + len(old) :]
    text = "".join(lines)
    for old, new in twin.sentences.items():
        if text.count(old) != 1:
            raise ValueError(f"{twin.source.name} does not say once: {old}")
        text = text.replace(old, new)
    body = text[text.index('"""\n', 3) + 4 :]
    return _tidy(_heading(twin.what, twin.source) + body)


def _edits(tree: ast.Module) -> Iterator[tuple[int, int, str, str]]:
    """Line, column, old and new text of every place that differs."""
    awaited = {each.name for each in _methods(tree) if _waits(each) and not _yields(each)}
    awaited |= WAITING
    for method in _methods(tree):
        if _waits(method):
            yield (method.lineno, method.col_offset, "def", "async def")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _own_method(node) in awaited:
            yield (node.lineno, node.col_offset, "self", "await self")
        elif isinstance(node, ast.Name) and node.id in NAMES:
            yield (node.lineno, node.col_offset, node.id, NAMES[node.id])
        elif isinstance(node, ast.ClassDef) and node.name in NAMES:
            yield (node.lineno, node.col_offset, f"class {node.name}", f"class {NAMES[node.name]}")
        elif isinstance(node, ast.ImportFrom):
            if node.module in MODULES:
                column = node.col_offset + len("from ")
                yield (node.lineno, column, node.module, MODULES[node.module])
            for alias in node.names:
                if alias.name in NAMES:
                    yield (alias.lineno, alias.col_offset, alias.name, NAMES[alias.name])


def _methods(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (each for each in node.body if isinstance(each, ast.FunctionDef))


def _waits(method: ast.FunctionDef) -> bool:
    """Whether a method waits itself or through another method of the class."""
    calls = {_own_method(node) for node in ast.walk(method) if isinstance(node, ast.Call)}
    return bool(calls & {*WAITING, *WRITES})


def _yields(method: ast.FunctionDef) -> bool:
    """Whether a method is a generator, which is iterated rather than awaited."""
    return any(isinstance(node, ast.Yield) for node in ast.walk(method))


def _own_method(call: ast.Call) -> str | None:
    target = call.func
    if (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    ):
        return target.attr
    return None


def batch_text(source: str) -> str:
    """The module with the calls of a batch."""
    methods = {each.name: each for each in _methods(ast.parse(source))}
    body: list[ast.stmt] = [ast.Expr(ast.Constant("Collects writes; each returns its place."))]
    body += [_collecting(methods[name]) for name in WRITES]
    batch = ast.ClassDef("BatchCalls", [ast.Name("Collection")], [], body, [])
    head = (
        _heading("The writes that a batch collects.", SOURCE)
        + "from collections.abc import Mapping, Sequence\n"
        + "from typing import Any\n"
        + "from sessiond_client import _requests as plans\n"
        + "from sessiond_client._collection import Collection\n"
    )
    return _tidy(head + "\n" + ast.unparse(ast.fix_missing_locations(batch)) + "\n")


def _collecting(method: ast.FunctionDef) -> ast.FunctionDef:
    """A write as a batch has it: nothing waits, and what is returned is a place."""
    arguments = method.args
    kept = [
        (argument, default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if argument.arg != "wait"
    ]
    arguments.kwonlyargs = [argument for argument, _ in kept]
    arguments.kw_defaults = [default for _, default in kept]
    said = f"Collect :meth:`SessionDB.{method.name}`; its place in ``results``."
    statements = [each for each in method.body[1:] if not isinstance(each, ast.If)]
    for node in ast.walk(ast.Module(statements, [])):
        if isinstance(node, ast.Attribute) and node.attr == "_run":
            node.attr = "_add"
        elif isinstance(node, ast.Call):
            node.keywords = [each for each in node.keywords if each.arg != "wait"]
    method.body = [ast.Expr(ast.Constant(said)), *statements]
    method.returns = ast.Name("int")
    return method


def _heading(what: str, source: Path) -> str:
    return f'"""{what}\n\n{ORIGIN.format(source.name)}\n"""\n'


def _tidy(text: str) -> str:
    """Imports in order, and the repository's format."""
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(SOURCE), "-"]
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        text = subprocess.run(
            [*ruff, *command, *name], input=text, capture_output=True, text=True, check=True
        ).stdout
    return text


def generated() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    texts = {twin.target: async_text(twin) for twin in TWINS}
    return {**texts, PACKAGE / "_batch_calls.py": batch_text(SOURCE.read_text(encoding="utf-8"))}


def stale() -> list[Path]:
    """The generated files that are not current."""
    return [
        path
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write what is not current, or with ``--check`` say so."""
    if arguments == ["--check"]:
        for path in stale():
            print(f"{path} is not current: run python client/generate_async.py", file=sys.stderr)
        return 1 if stale() else 0
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
