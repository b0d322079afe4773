"""Which query answers which read: one table for the daemon's pool and for direct readers."""

from collections.abc import Callable
from typing import Any

from sessiond_protocol.queries import facts as schema_facts
from sessiond_protocol.queries import messages, routes, sessions
from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.requests import Request, message, route, server, session

Query = Callable[[ReadConnection, Facts, Any], Any]


def _message_page(
    connection: ReadConnection, facts: Facts, request: message.MessagePage
) -> message.Page:
    rows, more = messages.bounded_page(
        connection,
        facts,
        request.session_id,
        request.after_id,
        request.limit,
        request.offset,
        active_only=request.active_only,
    )
    return message.Page(rows, more)


def _search(
    connection: ReadConnection,
    facts: Facts,
    request: message.SearchMessages,
    *,
    indexed: bool = True,
) -> message.SearchPage:
    # Its tables of characters take longer to make than everything else here: whoever never
    # searches does without them.
    from sessiond_protocol.search.messages import search

    found = search(
        connection,
        facts,
        request.query,
        request.source_filter,
        request.exclude_sources,
        request.role_filter,
        request.limit,
        request.offset,
        indexed=indexed,
    )
    return message.SearchPage(found.rows, found.degraded)


QUERIES: dict[type[Request[Any]], Query] = {
    session.SessionGet: lambda c, f, r: sessions.get(c, f, r.session_id),
    session.SessionResolve: lambda c, f, r: sessions.resolve(c, f, r.session_id_or_prefix),
    session.SessionTitle: lambda c, f, r: sessions.title(c, f, r.session_id),
    session.SessionByTitle: lambda c, f, r: sessions.by_title(c, f, r.title),
    session.SessionResolveTitle: lambda c, f, r: sessions.resolve_title(c, f, r.title),
    session.SessionNextTitle: lambda c, f, r: sessions.next_title(c, f, r.base_title),
    session.SessionNewest: lambda c, f, r: sessions.newest(c, f, r.source, r.limit, r.offset),
    session.SessionRich: lambda c, f, r: sessions.rich(
        c, f, r.source, r.exclude_sources, r.limit, r.offset
    ),
    session.SessionPage: lambda c, f, r: sessions.page(c, f, r.source, r.after, r.limit),
    session.SessionCount: lambda c, f, r: sessions.count(c, f, r.source),
    session.SessionPrunable: lambda c, f, r: sessions.prunable(c, f, r.before, r.source),
    message.MessagePage: _message_page,
    message.MessageLatest: lambda c, f, r: messages.tail(c, f, r.session_id, r.limit, r.before_id),
    message.MessageCount: lambda c, f, r: messages.count(c, f, r.session_id),
    message.SearchMessages: _search,
    route.RouteGet: lambda c, f, r: routes.get(c, f, r.session_key),
    route.RouteList: lambda c, f, r: routes.after(c, f, r.after_key, r.limit),
    route.TranscriptState: lambda c, f, r: routes.transcript(c, f, r.session_id),
    route.SessionSeveral: lambda c, f, r: routes.several(c, f),
    server.ChangeCounter: lambda c, f, r: schema_facts.change_counter(c, f),
}


class Reader:
    """Answers reads on one connection; remembers the schema's facts while they hold."""

    __slots__ = ("_connection", "_facts")

    def __init__(self, connection: ReadConnection) -> None:
        self._connection = connection
        self._facts: Facts | None = None

    def answer(self, request: Request[Any]) -> Any:
        """The raw result of a read. Every statement is run to its end before this returns."""
        return QUERIES[type(request)](self._connection, self._current_facts(), request)

    def answer_unindexed(self, request: message.SearchMessages) -> message.SearchPage:
        """The same for a search that found an index damaged: slower, and complete."""
        return _search(self._connection, self._current_facts(), request, indexed=False)

    def _current_facts(self) -> Facts:
        facts = self._facts
        if facts is None or facts.cookie != schema_facts.schema_cookie(self._connection):
            facts = self._facts = schema_facts.read_facts(self._connection)
        return facts
