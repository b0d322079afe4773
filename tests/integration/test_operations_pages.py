"""The pages for operators: every message of the daemon's is explained, every metric listed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond_protocol.metrics import families
from tests.unit.protocol.test_metrics import STATS

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "daemon").rglob("*.py")]

# Calls that say something to people, and which of their arguments the text is.
_LOGGED = {"warning", "error", "critical"}
_RAISED = {"UnsafeFile": 0, "AlreadyServed": 0, "LockTimeout": 0, "OpenRefused": 1}
# Failures that are about the daemon, not about what was asked.
_OF_THE_DAEMON = {"DATABASE", "DISK_FULL", "OVERLOADED", "SHUTTING_DOWN", "MIGRATING",
                  "UNAUTHORIZED", "OUT_OF_ORDER", "TIMEOUT"}  # fmt: skip


def text_of(node: ast.expr) -> str:
    """A text as a page writes it: what differs each time is ``…``."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%(\.\d+)?[sdfgr]", "…", str(node.value)).replace("%%", "%")
    if isinstance(node, ast.JoinedStr):
        return "".join(
            text_of(part) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "…"


def said(tree: ast.AST) -> Iterator[str]:
    """Every text that a module logs or raises for people."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        if name in _LOGGED and isinstance(function, ast.Attribute):
            yield text_of(call.args[0])
        elif name in _RAISED and len(call.args) > _RAISED[name]:
            yield text_of(call.args[_RAISED[name]])
        elif name in ("Failure", "refusal") and len(call.args) > 1:
            code = call.args[0]
            if isinstance(code, ast.Attribute) and code.attr in _OF_THE_DAEMON:
                yield text_of(call.args[1])


def explained() -> list[str]:
    """The messages of the page, each in its first column."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"(?m)^\| `([^`]+)` \|", page)


def matches(row: str, text: str) -> bool:
    """Whether a row is about this text: its fixed parts occur in it, in this order."""
    parts = [part.strip() for part in row.split("…")]
    return re.search(".*".join(map(re.escape, filter(None, parts))), text) is not None


MESSAGES = sorted(
    {
        text
        for path in SOURCES
        for text in said(ast.parse(path.read_text(encoding="utf-8")))
        if len(re.sub(r"\W", "", text)) > 3  # else it only passes on another one
    }
)


@pytest.mark.parametrize("text", MESSAGES)
def test_every_message_is_explained(text: str) -> None:
    assert any(matches(row, text) for row in explained()), (
        f"docs/troubleshooting.md does not say what to do about: {text}"
    )


def test_every_explained_message_is_one_that_can_come() -> None:
    constants = [
        text_of(node)
        for path in [*SOURCES, *(ROOT / "client").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant | ast.JoinedStr)
    ]
    for row in explained():
        for part in filter(None, (part.strip(" ,;:()-.") for part in row.split("…"))):
            assert any(part in text for text in constants), f"nobody says {part!r} of {row!r}"


def test_every_metric_is_listed() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"(?m)^\| (`(?:sessiond|process)_.*?) \|", page))
    listed = set(re.findall(r"`(\w+)`", rows))
    whole = {**STATS, "index": {"state": "healthy", "rebuilds": 0, "mended": 0, "merges": 0}}
    for name in ("accepted", "refused", "watchers", "reads_waiting", "guarded", "commits",
                 "foreign_commits", "started", "resident_bytes", "max_resident_bytes",
                 "cpu_seconds"):  # fmt: skip
        whole[name] = 0
    histogram = STATS["writer"]["commit_seconds"]
    whole["inbox"] = {"requests": 0, "bytes": 0}
    whole["readers"] = {"count": 0, "oldest": {"frame": 1}}
    whole["schema"] = {"version": 6}
    whole["care"] = {"retention": {"deleted": 0}, "optimize": {"runs": 0}}
    whole["checkpoints"] = {**STATS["checkpoints"], "age": 1.0}
    whole["writer"] = {
        **STATS["writer"], "replayed_batches": 0, "batch_size": histogram,
        "queue_wait_seconds": histogram, "lock_wait_seconds": histogram,
        "apply_seconds": histogram, "sync_seconds": histogram,
    }  # fmt: skip
    found = {f"{each.name}_total" if each.type == "counter" else each.name
             for each in families(whole)}  # fmt: skip
    assert listed == found
