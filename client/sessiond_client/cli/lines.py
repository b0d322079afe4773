"""JSON Lines as they come: objects, and what is none of them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank: its object, or why it has none. ``number`` counts from 1."""

    number: int
    size: int
    value: dict[str, Any] | None
    trouble: str = ""


def read_lines(stream: Iterable[bytes]) -> Iterator[Line]:
    """The lines of a file opened as bytes; a broken one does not end the reading."""
    for number, data in enumerate(stream, start=1):
        if not data.strip():
            continue
        try:
            value = json.loads(data.decode("utf-8-sig", "surrogatepass"))
        except UnicodeDecodeError as error:
            yield Line(number, len(data), None, f"not UTF-8: {error.reason} at {error.start}")
            continue
        except (ValueError, RecursionError) as error:
            yield Line(number, len(data), None, f"not JSON: {error}")
            continue
        if isinstance(value, dict):
            yield Line(number, len(data), value)
        else:
            yield Line(number, len(data), None, f"{type(value).__name__} instead of an object")
