"""Search in messages: the two indexes together, or every message where they cannot be trusted.

Messages with text that words cannot find (see :mod:`~sessiond_protocol.search.cjk`) have a row
in ``sessiond_cjk`` and are judged by that index alone, all others by ``messages_fts``; so
``AND``, ``OR`` and ``NOT`` stay one expression for each. Both lists are ranked by bm25 and then
interleaved, because ranks of two indexes cannot be compared: the best of the first, the best of
the second, and so on.

Rows of other programs reach the pair index late, and their updates and deletes not at all.
Therefore its candidates are judged by the message's text as it is now, and messages above
``sessiond_meta.cjk_cursor`` that are not in it yet are judged one by one.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import Any, Final

import msgspec

from sessiond_protocol.content import check_integer
from sessiond_protocol.queries.connection import ReadConnection
from sessiond_protocol.queries.facts import Facts
from sessiond_protocol.queries.messages import shown
from sessiond_protocol.queries.statement import dicts, listed
from sessiond_protocol.search import fts, neighbours
from sessiond_protocol.search.candidates import (
    IDS,
    SOURCES,
    UNPAIRED,
    Filters,
    Hit,
    everything,
    judged,
    places,
    ranked_words,
    tail,
    text_of,
)
from sessiond_protocol.search.neighbours import readable
from sessiond_protocol.search.query import Node, parse
from sessiond_protocol.search.scan import Scan
from sessiond_protocol.search.snippet import ELLIPSIS, LENGTH, MARK, snippet

# More messages than this that the pair index has not looked at make a search noticeably slower.
LONG_TAIL: Final = 10_000

_WIDTH: Final = 9  # of what a row says of its hit: see _row
_DETAILS: Final = "m.timestamp, m.tool_name, s.source, s.model, s.started_at"
# FTS5 loses text at a NUL; snippets of such messages are made here.
_SNIPPET: Final = (
    "CASE WHEN instr(m.content, char(0)) THEN NULL ELSE CAST("
    f"snippet(messages_fts, -1, '{MARK[0]}', '{MARK[1]}', '{ELLIPSIS}', {LENGTH}) AS BLOB) END"
)
_PAIR_TABLES: Final = frozenset({"sessiond_meta", "sessiond_cjk", "sessiond_cjk_fts"})
_MOST: Final = 2**62


class SearchPage(msgspec.Struct, frozen=True):
    """Hits, best first, and whether they had to be found the slow way (``degraded``).

    Either way they are complete. Degraded without an index they come newest first.
    """

    rows: list[dict[str, Any]]
    degraded: bool = False


class _State(msgspec.Struct, frozen=True):
    """The indexes at one moment. ``paired``: something in the pair index matches."""

    healthy: bool = False
    cursor: int = 0
    last: int = 0
    paired: bool = False

    @property
    def tail(self) -> int:
        """At most so many messages are missing in the pair index."""
        return max(0, self.last - self.cursor)


def search(
    connection: ReadConnection,
    facts: Facts,
    query: str,
    source_filter: Iterable[str] | None = None,
    exclude_sources: Iterable[str] | None = None,
    role_filter: Iterable[str] | None = None,
    limit: int = 20,
    offset: int = 0,
    *,
    indexed: bool = True,
) -> SearchPage:
    """Messages that match ``query``, best first, from ``offset`` on, at most ``limit``.

    Each row has ``id, session_id, role, snippet, timestamp, tool_name, source, model,
    session_started, context``. ``source_filter``: only sessions of these sources (an empty list
    matches nothing); ``exclude_sources``: none of these; ``role_filter``: only messages of these
    roles (an empty list filters nothing). ``indexed`` off: look through all messages, since an
    index was found damaged. Raises ``ValueError`` naming the argument for a
    negative ``limit`` or ``offset``; errors of the database are passed on.
    """
    limit = check_integer(limit, "limit", minimum=0)
    offset = check_integer(offset, "offset", minimum=0)
    filters = _filters(facts, source_filter, exclude_sources, role_filter)
    tree = parse(query)
    if tree is None or filters is None or not limit:
        return SearchPage([])
    words, pairs = fts.words_expression(tree), fts.pairs_expression(tree)
    state = _state(connection, facts, pairs.text) if indexed else _State()
    this = _Search(connection, facts, tree, filters, state)
    found = this.page(words, pairs, limit, min(offset, _MOST))
    return SearchPage(found, not state.healthy or state.tail > LONG_TAIL)


def _filters(
    facts: Facts,
    source_filter: Iterable[str] | None,
    exclude_sources: Iterable[str] | None,
    role_filter: Iterable[str] | None,
) -> Filters | None:
    """The conditions of a hit, ``None`` when nothing can satisfy them.

    A ``+`` keeps SQLite from starting with an index on the column: candidates are few and known.
    """
    sql = shown(facts)
    values: list[str] = []
    if source_filter is not None:
        condition, bound = listed("+s.source", source_filter, "source_filter")
        if not bound:
            return None
        sql, values = f"{sql} AND {condition}", [*values, *bound]
    if exclude_sources is not None:
        condition, bound = listed("s.source", exclude_sources, "exclude_sources", negated=True)
        if bound:
            sql, values = f"{sql} AND (s.source IS NULL OR {condition})", [*values, *bound]
    if role_filter is not None:
        condition, bound = listed("+m.role", role_filter, "role_filter")
        if bound:
            sql, values = f"{sql} AND {condition}", [*values, *bound]
    return Filters(sql, tuple(values))


def _state(connection: ReadConnection, facts: Facts, pairs: str | None) -> _State:
    if not facts.tables >= _PAIR_TABLES or "messages_fts" not in facts.tables:
        return _State()
    # Most searches find no pairs, and to rank nothing takes longer than to see that.
    rows = connection.execute(
        "SELECT index_state, cjk_cursor, (SELECT MAX(id) FROM messages),"
        " CASE WHEN index_state = '' AND ?1 IS NOT NULL THEN"
        " EXISTS (SELECT 1 FROM sessiond_cjk_fts WHERE sessiond_cjk_fts MATCH ?1) END"
        " FROM sessiond_meta WHERE id = 1",
        (pairs,),
    ).fetchall()
    if not rows:
        return _State()
    ((state, cursor, last, paired),) = rows
    return _State(healthy=state == "", cursor=cursor, last=last or 0, paired=bool(paired))


def _row(found: Sequence[Any]) -> dict[str, Any]:
    """A hit, and what the statement says of it first; whatever follows is not looked at."""
    return {
        "id": found[0],
        "session_id": found[1],
        "role": found[2],
        "snippet": found[3],
        "timestamp": found[4],
        "tool_name": found[5],
        "source": found[6],
        "model": found[7],
        "session_started": found[8],
    }


class _Search:
    """One search: its tree in every form that is needed, and the steps to a page of rows."""

    def __init__(
        self,
        connection: ReadConnection,
        facts: Facts,
        tree: Node,
        filters: Filters,
        state: _State,
    ) -> None:
        self._connection = connection
        self._facts = facts
        self._tree = tree
        self._filters = filters
        self._state = state
        self._scan = Scan(tree)
        self._ready: dict[int, dict[str, Any]] = {}

    def page(
        self, words: fts.Expression, pairs: fts.Expression, limit: int, offset: int
    ) -> list[dict[str, Any]]:
        wanted = min(offset + limit, _MOST)
        if not self._state.healthy or words.text is None or pairs.text is None:
            hits = everything(self._connection, self._filters, self._scan, wanted)
            return self._rows(hits[offset:], None)
        # In this order: a message that moves into the pair index meanwhile is found twice
        # rather than not at all.
        late, judged_late = self._late()
        paired = self._paired(pairs.text, wanted)
        if words.exact and not judged_late and not paired and limit <= IDS:
            if not offset:
                return self._word_rows(words.text, limit, around=True)
            # Here rows that are skipped would look up their neighbours, too.
            return self._with_context(self._word_rows(words.text, limit, offset))
        hits = self._word_hits(words, wanted, judged_late)
        merged = _interleaved(hits, paired, late)
        return self._rows(list(islice(merged, offset, wanted)), words.text)

    def _paired(self, expression: str, wanted: int) -> list[Hit]:
        # Once there is a tail, its messages may have become pairs since.
        if not self._state.paired and not self._state.tail:
            return []
        return judged(
            self._connection, "sessiond_cjk_fts", expression, self._filters, self._scan, wanted
        )

    def _late(self) -> tuple[list[Hit], set[int]]:
        if not self._state.tail:
            return [], set()
        return tail(self._connection, self._state.cursor, self._filters, self._scan)

    def _word_hits(self, words: fts.Expression, wanted: int, elsewhere: set[int]) -> list[Hit]:
        assert words.text is not None
        most = wanted + len(elsewhere)
        if words.exact and most <= IDS:
            rows = self._word_rows(words.text, most)
            self._ready = {row["id"]: row for row in rows}
            hits = [Hit(found) for found in self._ready]
        elif words.exact:
            ids = ranked_words(self._connection, words.text, self._filters, most)
            hits = [Hit(found) for found in ids]
        else:
            filters = Filters(UNPAIRED + self._filters.sql, self._filters.values)
            hits = judged(self._connection, "messages_fts", words.text, filters, self._scan, most)
        return [hit for hit in hits if hit.id not in elsewhere]

    def _word_rows(
        self, expression: str, limit: int, offset: int = 0, *, around: bool = False
    ) -> list[dict[str, Any]]:
        """Rows of which ``messages_fts`` knows everything, in one statement.

        ``around``: with their ``context``, which is cheaper here than by a statement of its own.
        """
        more, joins = "", ""
        if around:
            more, joins = f", {neighbours.COLUMNS}", neighbours.joins(self._facts)
        found = self._connection.execute(
            f"SELECT m.id, m.session_id, m.role, {_SNIPPET}, {_DETAILS}{more}"
            f" FROM messages_fts CROSS JOIN {SOURCES}{joins}"
            f" WHERE messages_fts MATCH ? AND m.id = messages_fts.rowid{UNPAIRED}"
            f"{self._filters.sql} ORDER BY messages_fts.rank LIMIT ? OFFSET ?",
            (expression, *self._filters.values, limit, offset),
        ).fetchall()
        rows = self._readable([_row(each) for each in found])
        if around:
            contexts = neighbours.read_contexts(self._connection, found, _WIDTH)
            for row, context in zip(rows, contexts, strict=True):
                row["context"] = context
        return rows

    def _rows(self, hits: Sequence[Hit], expression: str | None) -> list[dict[str, Any]]:
        """Rows in the order of ``hits``; a message that is gone meanwhile is left out."""
        details = dict(self._ready)
        bare = [hit for hit in hits if hit.id not in details]
        for start in range(0, len(bare), IDS):
            part = bare[start : start + IDS]
            ids = [hit.id for hit in part]
            marked = self._marked([hit.id for hit in part if hit.text is None], expression)
            marked.update((hit.id, self._snippet(hit.text)) for hit in part if hit.text is not None)
            rows = self._connection.execute(
                f"SELECT m.id, m.session_id, m.role, NULL, {_DETAILS} FROM {SOURCES}"
                f" WHERE m.id IN ({places(len(ids))})",
                ids,
            ).fetchall()
            for row in map(_row, rows):
                details[row["id"]] = {**row, "snippet": marked.get(row["id"], "")}
        return self._with_context([details[hit.id] for hit in hits if hit.id in details])

    def _marked(self, ids: Sequence[int], expression: str | None) -> dict[int, str]:
        """Snippets that FTS5 makes, by id."""
        if not ids or expression is None:
            return {}
        rows = self._connection.execute(
            f"SELECT m.id, {_SNIPPET} FROM messages_fts CROSS JOIN messages AS m"
            " WHERE messages_fts MATCH ? AND m.id = messages_fts.rowid"
            f" AND messages_fts.rowid IN ({places(len(ids))})",
            (expression, *ids),
        ).fetchall()
        made = self._readable(dicts(rows, ("id", "snippet")))
        return {row["id"]: row["snippet"] for row in made}

    def _readable(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """``rows`` with their snippets as text, those that are missing made here."""
        missing = []
        for row in rows:
            stored = row["snippet"]
            if stored is None:
                missing.append(row)
            else:
                row["snippet"] = text_of(stored)
        if missing:
            texts = self._texts([row["id"] for row in missing])
            for row in missing:
                row["snippet"] = self._snippet(texts.get(row["id"], ""))
        return rows

    def _texts(self, ids: Sequence[int]) -> dict[int, str]:
        rows = self._connection.execute(
            f"SELECT id, CAST(content AS BLOB) FROM messages WHERE id IN ({places(len(ids))})",
            ids,
        ).fetchall()
        return {found: text_of(content) for found, content in rows}

    def _snippet(self, text: str) -> str:
        return snippet(self._tree, readable(text))

    def _with_context(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        around = neighbours.contexts(self._connection, self._facts, [row["id"] for row in rows])
        for row in rows:
            row["context"] = around.get(row["id"], [])
        return rows


def _interleaved(*lists: Sequence[Hit]) -> Iterator[Hit]:
    """The first of each list, the second of each, and so on; every message once."""
    seen: set[int] = set()
    for hit in chain.from_iterable(zip_longest(*lists)):
        if hit is not None and hit.id not in seen:
            seen.add(hit.id)
            yield hit
