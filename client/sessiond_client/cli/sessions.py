"""Which session a person means: an id, the beginning of one, or a title."""

import difflib
import os
from collections.abc import Sequence
from typing import Any, Final

from sessiond_client import SessionDB
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.output import one_line

NEAR: Final = 3  # suggestions in an error
LOOKED_AT: Final = 500  # newest sessions among which suggestions are sought


def find_session(db: SessionDB, name: str, *, lineage: bool = True) -> str:
    """The id of the session that ``name`` means.

    An exact id wins; else it is the beginning of one id, or a title. With ``lineage`` a title
    stands for its newest continuation ``title #N``, without it for itself only, as what changes
    or deletes a session needs. Refuses what means two sessions, or none.
    """
    by_id = db.resolve_session_id(name)
    if by_id == name:
        return name
    by_title = _titled(db, name, lineage=lineage)
    if by_id and by_title and by_id != by_title:
        raise Refused(
            f"{name!r} is a title of session {by_title} and the beginning of {by_id}: give an id",
            os.EX_USAGE,
        )
    found = by_id or by_title
    if found is None:
        raise Refused(_unknown(name, db.search_sessions(limit=LOOKED_AT)), os.EX_NOINPUT)
    return found


def _titled(db: SessionDB, title: str, *, lineage: bool) -> str | None:
    if lineage:
        return db.resolve_session_by_title(title)
    session = db.get_session_by_title(title)
    return session["id"] if session else None


def _unknown(name: str, newest: Sequence[dict[str, Any]]) -> str:
    """The error for a name that no session has, or that several share as a beginning."""
    starting = [each["id"] for each in newest if name and str(each["id"]).startswith(name)]
    if len(starting) > 1:
        more = f" and {len(starting) - NEAR} more" if len(starting) > NEAR else ""
        return f"{name!r} is the beginning of {', '.join(starting[:NEAR])}{more}: type more of it"
    close = near(name, newest)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"no session {name!r}{hint}"


def near(name: str, sessions: Sequence[dict[str, Any]]) -> list[str]:
    """Ids and titles like ``name``, or with a word like it, the best first."""
    known: dict[str, str] = {}
    words: dict[str, list[str]] = {}
    for session in sessions:
        for text in (session["id"], session.get("title")):
            if isinstance(text, str) and text:
                known.setdefault(text.casefold(), text)
                for word in text.casefold().split():
                    words.setdefault(word, []).append(text)
    wanted = name.casefold()
    close = [known[key] for key in difflib.get_close_matches(wanted, known, NEAR, 0.6)]
    within = [text for key, text in known.items() if len(wanted) > 2 and wanted in key]
    alike = difflib.get_close_matches(wanted, words, 1, 0.75)
    with_word = [text for word in alike for text in words[word]]
    return [one_line(text) for text in dict.fromkeys([*close, *within, *with_word])][:NEAR]
