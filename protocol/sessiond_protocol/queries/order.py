"""The messages of one session in the order of their ids, without an index made for that.

Schema 6 has an index by session and time. Times nearly always rise with the ids; where they do
not, the session is in ``sessiond_disorder``. So the index serves both orders, except for marked
sessions and while there are messages that the daemon has not looked at: then all of a session's
entries are read. An index of our own would cost each append as much again as that of schema 6.
"""

from typing import Final

from sessiond_protocol.queries.facts import Facts

# No time is below it, not even a text that another program stored as one.
BEFORE_ALL: Final = "-9e999"


def by_session(facts: Facts, alias: str) -> str:
    """``messages`` for queries of one session, on the index for them.

    Named outright: with statistics from a time when the file was small (another program may
    have run ANALYZE then), SQLite would look through all messages of all sessions instead.
    """
    return f"messages AS {alias}" + (" INDEXED BY idx_messages_session" if facts.by_session else "")


def follows_time(facts: Facts, session: str) -> str:
    """A condition: in this session (an SQL expression) the order of time is that of the ids."""
    if not (facts.disorder and facts.meta and facts.by_session):
        return "0"
    return (
        "((SELECT cjk_cursor FROM sessiond_meta WHERE id = 1) >= (SELECT max(id) FROM messages)"
        " AND (NOT EXISTS (SELECT 1 FROM sessiond_disorder) OR NOT EXISTS"
        f" (SELECT 1 FROM sessiond_disorder AS d WHERE d.session_id = {session})))"
    )
