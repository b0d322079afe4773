"""Values on their way into columns: clean text, JSON, structured content as searchable text.

Structured content (a list of parts, a dict) is stored twice: its text in ``messages.content``,
where search, previews and other programs find it, and itself as JSON in ``sessiond_content``.
The JSON is valid only while its hash matches the column's text, because another program may
have changed the text.

Every argument that cannot be stored is a ``ValueError`` that names it, also one of a wrong type:
that is what callers of the store catch.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**63 - 1

# How newer programs store structured content in the column itself.
INLINE_JSON: Final = "\0json:"

HASH_BYTES: Final = 16

# Parts of these kinds carry bytes or links; whatever text field they have is not for search.
_MEDIA: Final = re.compile("image|audio|video", re.IGNORECASE)
_DATA_URL: Final = re.compile(r"\s*data:[^,\s]*;base64,", re.IGNORECASE)


def clean_text(text: str) -> str:
    """``text`` as UTF-8 can carry it: every lone surrogate becomes U+FFFD.

    Two surrogates that form a pair become the character they stand for.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def check_integer(
    value: object, name: str, *, minimum: int = MIN_INTEGER, maximum: int = MAX_INTEGER
) -> int:
    """``value`` if it is an integer within the bounds (by default those of a column).

    Raises ``ValueError`` that names the argument, the value and the bounds.
    """
    if not isinstance(value, int):
        raise ValueError(f"{name} must be an integer, not {type(value).__name__}")
    if not minimum <= value <= maximum:
        # An integer of thousands of digits cannot be printed.
        shown = str(value) if value.bit_length() < 512 else "the value"
        raise ValueError(f"{name} must be between {minimum} and {maximum}, {shown} is not")
    return value


def check_real(value: object, name: str) -> float:
    """``value`` as a finite float; ``ValueError`` naming the argument otherwise."""
    if not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, not {type(value).__name__}")
    try:
        real = float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large for a floating-point number") from None
    if not math.isfinite(real):
        raise ValueError(f"{name} must be a finite number, {value} is not")
    return real


def to_json(value: object, name: str) -> str:
    """``value`` as JSON text, whatever its truth value.

    Keys that are not text become text as in :func:`json.dumps`, integers keep all their digits.
    Raises ``ValueError`` naming the argument for what JSON cannot hold: NaN, infinities, other
    types, cycles.
    """
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{name} cannot be stored as JSON: {exc}") from exc
    except RecursionError:
        raise ValueError(f"{name} cannot be stored as JSON: it is nested too deeply") from None
    return clean_text(encoded)


def encode_json(value: object, name: str) -> str | None:
    """A JSON column's text: ``None`` for everything falsy, else as :func:`to_json`."""
    return to_json(value, name) if value else None


def count_tool_calls(tool_calls: object) -> int:
    """How much ``tool_calls`` (decoded) adds to a session's ``tool_call_count``."""
    if not tool_calls:
        return 0
    return len(tool_calls) if isinstance(tool_calls, list | tuple) else 1


def text_hash(text: str) -> bytes:
    """What ties stored structured content to the text in the column: 16 bytes of BLAKE2b."""
    from hashlib import blake2b  # only few messages need it, and OpenSSL comes along

    return blake2b(text.encode(), digest_size=HASH_BYTES).digest()


def split_content(content: object) -> tuple[str | None, str | None, bytes | None]:
    """``content`` as ``(column text, JSON of the structure, hash of the text)``.

    Text and ``None`` have no structure. A list, tuple or dict gives its text parts, one per
    line, ``""`` when it has none. Raises ``ValueError`` for any other type and for what JSON
    cannot hold.
    """
    if content is None:
        return None, None, None
    if isinstance(content, str):
        text = clean_text(content)
        if not text.startswith(INLINE_JSON):
            return text, None, None
        # Stored bare, this text would be taken for a structure when it is read.
        return text, to_json(text, "content"), text_hash(text)
    if not isinstance(content, list | tuple | dict):
        kind = type(content).__name__
        raise ValueError(f"content must be text, None, a list or a dict, not {kind}")
    value = to_json(content, "content")
    text = content_text(content)
    return text, value, text_hash(text)


def content_text(content: object) -> str:
    """The text of decoded content, one part per line: never image bytes, never their links."""
    return clean_text("\n".join(_text_parts(content)))


def _text_parts(content: object) -> Iterator[str]:
    """Text of plain strings, of ``text`` fields, and of parts nested in ``content`` fields.

    Walked with a stack: content of another program may be nested deeper than Python recurses.
    """
    stack: list[Any] = [content]
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            if part and not _DATA_URL.match(part):
                yield part
        elif isinstance(part, list | tuple):
            stack.extend(reversed(part))
        elif isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and _MEDIA.search(kind):
                continue
            if isinstance(part.get("text"), str):
                stack.append(part["text"])
            elif isinstance(part.get("content"), list) or kind == "tool_result":
                stack.append(part.get("content"))
