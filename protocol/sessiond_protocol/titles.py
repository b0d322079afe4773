"""Session titles: how they are cleaned, and how continuations of a session are numbered.

A lineage is a title and its continuations ``title #2``, ``title #3``, …; the unnumbered one
counts as number 1.
"""

import re
from typing import Final

MAX_TITLE_LENGTH: Final = 100

# A longer row of digits is part of the title: every number fits in a column, and a numbered
# title always has room for some of its base.
MAX_NUMBER_DIGITS: Final = 18

# ASCII controls except tab, LF and CR; then zero-width, direction and annotation characters,
# which can make two titles look alike or a title read backwards.
_REMOVED: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffc\ufff9-\ufffb]"
)
_NUMBERED: Final = re.compile(rf"(.+) #([0-9]{{1,{MAX_NUMBER_DIGITS}}})", re.DOTALL)


def sanitize_title(title: str | None) -> str | None:
    """The title as it is stored, or ``None`` when nothing visible is left.

    Raises ``ValueError`` stating both lengths when the cleaned title exceeds
    ``MAX_TITLE_LENGTH`` characters.
    """
    if not title:
        return None
    cleaned = " ".join(_REMOVED.sub("", title).split())
    if len(cleaned) > MAX_TITLE_LENGTH:
        raise ValueError(f"title too long: {len(cleaned)} characters, at most {MAX_TITLE_LENGTH}")
    return cleaned or None


def split_number(title: str) -> tuple[str, int | None]:
    """``("title", 3)`` of ``"title #3"``; ``(title, None)`` when it is not numbered."""
    match = _NUMBERED.fullmatch(title)
    if match is None:
        return title, None
    return match[1], int(match[2])


def numbered(base: str, number: int) -> tuple[str, str]:
    """The title of number ``number`` in a lineage, and the base it really has.

    Number 1 has no suffix. The base is cut so that the title fits ``MAX_TITLE_LENGTH``; a cut
    base loses trailing spaces too, as cleaning would take one of two adjoining ones.
    """
    suffix = "" if number == 1 else f" #{number}"
    room = MAX_TITLE_LENGTH - len(suffix)
    stem = base if len(base) <= room else base[:room].rstrip()
    return stem + suffix, stem
