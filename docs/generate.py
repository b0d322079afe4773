"""Writes what the documentation takes from the code: methods and settings.

Run it with ``python docs/generate.py``; a test checks that the pages are current.
"""

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from sessiond import settings
from sessiond_protocol.requests import (
    REQUESTS,
    Kind,
    feed,
    job,
    message,
    result_type,
    route,
    server,
)

FOLDER = Path(__file__).parent
STRUCTURES = (
    message.Message, message.Page, message.SearchPage, server.Welcome, server.DatabaseFile,
    server.Limits, server.Item, feed.Subscribed, feed.Events, feed.Event, message.Unchanged,
    route.Route, route.RoutedSession, route.SessionEnding, route.SessionTotals,
    route.RoutePlaced, route.ImportedRoute, route.Transcript, job.JobState,
)  # fmt: skip
KINDS = {
    Kind.READ: "read",
    Kind.WRITE: "write",
    Kind.CONTROL: "answered at once",
    Kind.WRITER: "answered by the writer",
}


def methods() -> str:
    """A section per method: what it does, its arguments, its result."""
    parts = []
    for name in sorted(REQUESTS):
        request = REQUESTS[name]
        summary = (request.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        arguments = ", ".join(_argument(field) for field in msgspec.structs.fields(request))
        result = _type_name(result_type(request))
        parts.append(
            f"**`{name}`** ({KINDS[request.KIND]}) {summary}\n\n`{{{arguments}}}` → `{result}`\n"
        )
    return "\n".join(parts)


def _argument(field: Any) -> str:
    optional = "" if field.required else "?"
    return f"{field.encode_name}{optional}: {_type_name(field.type)}"


NAMES = {
    str: "text", int: "int", float: "float", bool: "bool", bytes: "bytes", dict: "map",
    list: "array", type(None): "nil", Any: "any", msgspec.Raw: "map",
}  # fmt: skip


def _type_name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Annotated:
        return _type_name(get_args(kind)[0])
    if origin in (Union, UnionType):
        return " | ".join(_type_name(each) for each in get_args(kind))
    if origin in (list, tuple):
        return f"[{', '.join(_type_name(each) for each in get_args(kind))}]"
    if origin is Literal:
        return " | ".join(f'"{each}"' for each in get_args(kind))
    if origin is dict:
        return "map"
    name: str = NAMES.get(kind) or kind.__name__
    return name


def structures() -> str:
    """A section per structure that requests and results are made of."""
    parts = []
    for structure in STRUCTURES:
        summary = (structure.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        fields = ", ".join(_argument(field) for field in msgspec.structs.fields(structure))
        parts.append(f"**{structure.__name__}** {summary}\n\n`{{{fields}}}`\n")
    return "\n".join(["", "## Structures", "", *parts])


def setting_rows() -> str:
    """The table of settings."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, (spec, default) in settings.specs().items():
        shown = settings.shown(spec, default)
        reload = " *(SIGHUP)*" if spec.reload else ""
        lines.append(f"| `{name}` | {shown} | {spec.help}{reload} |")
    return "\n".join(lines) + "\n"


def current(page: str) -> str:
    """A page with its generated part made anew."""
    marker, text = {
        "protocol.md": ("<!-- methods -->\n", lambda: methods() + structures()),
        "configuration.md": ("<!-- settings -->\n", setting_rows),
    }[page]
    before, _, _ = (FOLDER / page).read_text(encoding="utf-8").partition(marker)
    return f"{before}{marker}\n{text()}"


def main() -> None:
    """Write both pages."""
    for page in ("protocol.md", "configuration.md"):
        (FOLDER / page).write_text(current(page), encoding="utf-8")


if __name__ == "__main__":
    main()
