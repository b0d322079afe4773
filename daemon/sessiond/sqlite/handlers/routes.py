"""Routes: which session a gateway's key points at, changed by compare-and-swap."""

from typing import Any

from sessiond.sqlite.batch import Batch
from sessiond.sqlite.handlers import sessions
from sessiond.sqlite.handlers.registry import handles
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.queries import routes as queries
from sessiond_protocol.requests import route as requests
from sessiond_protocol.requests.session import SessionCreate, SessionEnd, SessionReopen

_TOTALS = (
    "UPDATE sessions SET input_tokens = coalesce(?, input_tokens),"
    " output_tokens = coalesce(?, output_tokens),"
    " cache_read_tokens = coalesce(?, cache_read_tokens),"
    " cache_write_tokens = coalesce(?, cache_write_tokens),"
    " estimated_cost_usd = coalesce(?, estimated_cost_usd),"
    " cost_status = coalesce(?, cost_status), cost_source = coalesce(?, cost_source),"
    " model = coalesce(model, ?), billing_provider = coalesce(billing_provider, ?),"
    " billing_base_url = coalesce(billing_base_url, ?) WHERE id = ?"
)


@handles(requests.RoutePut)
def put(batch: Batch, request: requests.RoutePut) -> requests.RoutePlaced:
    """Point a key at a session unless somebody was quicker."""
    current = _route(batch, request.session_key)
    if not _is_expected(current, request):
        version = current.version if current else 0
        return requests.RoutePlaced(applied=False, version=version, route=current)
    _check(batch, request)
    if request.session.mode != "existing":
        _make_session(
            batch,
            request.session_id,
            request.session.source,
            request.session.user_id,
            request.session.started_at,
        )
    if request.reopen:
        sessions.reopen(batch, SessionReopen(session_id=request.session_id))
    if request.end is not None and request.expected_session_id is not None:
        sessions.end(
            batch,
            SessionEnd(
                session_id=request.expected_session_id,
                end_reason=request.end.reason,
                ended_at=request.end.at,
            ),
        )
    if request.totals is not None:
        _store_totals(batch, request.session_id, request.totals)
    version = request.expected_version + 1
    batch.execute(
        "INSERT OR REPLACE INTO sessiond_routes (session_key, session_id, version, updated_at,"
        " entry) VALUES (?, ?, ?, ?, ?)",
        (request.session_key, request.session_id, version, request.updated_at, request.entry),
    )
    return requests.RoutePlaced(applied=True, version=version)


def _route(batch: Batch, session_key: str) -> requests.Route | None:
    row: Any = batch.row(
        f"SELECT {queries.COLUMNS} FROM sessiond_routes WHERE session_key = ?", (session_key,)
    )
    return None if row is None else queries.route(row)


def _is_expected(current: requests.Route | None, request: requests.RoutePut) -> bool:
    # The version alone would not do: after a restore it may count the same for another state.
    found = (0, None) if current is None else (current.version, current.session_id)
    return found == (request.expected_version, request.expected_session_id)


def _check(batch: Batch, request: requests.RoutePut) -> None:
    """Everything that may fail, before anything is changed."""
    session_id, mode = request.session_id, request.session.mode
    if request.end is not None and request.expected_session_id in (None, session_id):
        raise Failure(
            Code.INVALID_PARAMS,
            f"end is set, but the route does not leave a session: it pointed at"
            f" {request.expected_session_id!r} and will at {session_id!r}",
        )
    if mode == "ensure":
        return
    if sessions.exists(batch, session_id) is (mode == "new"):
        code, state = (
            (Code.CONFLICT, "exists already")
            if mode == "new"
            else (Code.NOT_FOUND, "does not exist")
        )
        raise Failure(code, f"session {session_id!r} {state}", {"session_id": session_id})


def _make_session(
    batch: Batch, session_id: str, source: str, user_id: str | None, started_at: float
) -> None:
    """Make a session's row, or fill in what is unset; write nothing if nothing is."""
    row = batch.row("SELECT source, user_id FROM sessions WHERE id = ?", (session_id,))
    if row is not None and row[0] != "unknown" and (row[1] is not None or user_id is None):
        return
    sessions.create(
        batch,
        SessionCreate(session_id=session_id, source=source, user_id=user_id, started_at=started_at),
    )


def _store_totals(batch: Batch, session_id: str, totals: requests.SessionTotals) -> None:
    batch.execute(
        _TOTALS,
        (
            totals.input_tokens,
            totals.output_tokens,
            totals.cache_read_tokens,
            totals.cache_write_tokens,
            totals.estimated_cost_usd,
            totals.cost_status,
            totals.cost_source,
            totals.model,
            totals.billing_provider,
            totals.billing_base_url,
            session_id,
        ),
    )


@handles(requests.RouteImport)
def import_routes(batch: Batch, request: requests.RouteImport) -> list[str]:
    """Take over routes whose keys have none; which keys were taken."""
    taken = []
    for each in request.routes:
        inserted = batch.execute(
            "INSERT INTO sessiond_routes (session_key, session_id, version, updated_at, entry)"
            " VALUES (?, ?, 1, ?, ?) ON CONFLICT (session_key) DO NOTHING RETURNING 1",
            (each.session_key, each.session_id, each.updated_at, each.entry),
        ).fetchall()
        if inserted:
            _make_session(batch, each.session_id, each.source, each.user_id, each.started_at)
            taken.append(each.session_key)
    return taken
