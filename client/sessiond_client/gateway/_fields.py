"""Typed values out of loose JSON objects: configurations, stored entries, legacy files.

An absent key and an explicit null both mean the default. Anything else of the wrong kind is a
``ValueError`` that names the field, the value and what is allowed.
"""

import json
import reprlib
from collections.abc import Mapping
from enum import Enum
from math import isfinite
from typing import Any, Final, TypeGuard, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

# What a database column and a double hold; JSON itself knows no bounds.
_INTEGERS: Final = range(-(2**63), 2**63)


def refusal(field: str, value: object, allowed: str) -> ValueError:
    """The error to raise; it ends up in logs, so that long values are cut short."""
    return ValueError(f"{field} is {reprlib.repr(value)}, allowed is {allowed}")


def json_object(data: bytes) -> dict[str, Any]:
    """The object that ``data`` is the JSON text of; anything else is a ``ValueError``."""
    try:
        value = json.loads(data)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(value, dict):
        raise refusal("JSON type", type(value).__name__, "an object")
    return value


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """``value`` as an object with text keys; an absent one (None) is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refusal(what, value, "an object")
    return value


def text(data: Mapping[str, Any], field: str, default: T) -> str | T:
    value = data.get(field)
    if value is None:
        return default
    if not isinstance(value, str):
        raise refusal(field, value, "text")
    return value


def identifier(data: Mapping[str, Any], field: str, default: T) -> str | T:
    """An id as text: some older files hold ids as numbers."""
    value = data.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text(data, field, default)


def required(data: Mapping[str, Any], field: str) -> str:
    value = identifier(data, field, None)
    if not value:
        raise refusal(field, value, "text that is not empty")
    return value


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite number that a column can hold; a boolean is none."""
    if isinstance(value, float):
        return isfinite(value)
    return is_whole(value)


def is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INTEGERS


def whole(data: Mapping[str, Any], field: str, default: int) -> int:
    value = data.get(field)
    if value is None:
        return default
    if not is_whole(value):
        raise refusal(field, value, "a whole number of 64 bits")
    return value


def number(data: Mapping[str, Any], field: str, default: float) -> float:
    """A finite number, of the type it was stored as."""
    value = data.get(field)
    if value is None:
        return default
    if not is_number(value):
        raise refusal(field, value, "a finite number")
    return value


def flag(data: Mapping[str, Any], field: str, default: bool) -> bool:
    value = data.get(field)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise refusal(field, value, "true or false")
    return value


def member(kind: type[E], value: object, field: str) -> E:
    """The member of an enum of text values; names the allowed ones if there is none."""
    try:
        return kind(value)
    except ValueError as exc:
        raise refusal(field, value, f"one of {', '.join(each.value for each in kind)}") from exc
