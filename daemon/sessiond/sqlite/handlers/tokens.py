"""Token and cost accounting."""

from sessiond.sqlite.batch import Batch
from sessiond.sqlite.handlers.registry import handles
from sessiond.sqlite.handlers.sessions import ensure_row
from sessiond_protocol.requests.session import SessionUpdateTokens

_COUNTERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)

# The counters come first, then the two costs, then what overwrites when given, then what is
# filled in only while unset.
_REST = (
    " cost_status = coalesce(?, cost_status), cost_source = coalesce(?, cost_source),"
    " pricing_version = coalesce(?, pricing_version),"
    " billing_provider = coalesce(billing_provider, ?),"
    " billing_base_url = coalesce(billing_base_url, ?),"
    " billing_mode = coalesce(billing_mode, ?), model = coalesce(model, ?) WHERE id = ?"
)

_ADD = (
    "UPDATE sessions SET "
    + "".join(f"{name} = coalesce({name}, 0) + ?, " for name in _COUNTERS)
    + "estimated_cost_usd = coalesce(estimated_cost_usd, 0) + coalesce(?, 0),"
    " actual_cost_usd = CASE WHEN ?7 IS NULL THEN actual_cost_usd"
    " ELSE coalesce(actual_cost_usd, 0) + ?7 END," + _REST
)

_SET = (
    "UPDATE sessions SET "
    + "".join(f"{name} = ?, " for name in _COUNTERS)
    + "estimated_cost_usd = coalesce(?, estimated_cost_usd),"
    " actual_cost_usd = coalesce(?7, actual_cost_usd)," + _REST
)


@handles(SessionUpdateTokens)
def update_tokens(batch: Batch, request: SessionUpdateTokens) -> None:
    """Add to the counters or set them; a session that does not exist is made first."""
    ensure_row(batch, request.session_id, "unknown", None, request.at)
    batch.execute(
        _SET if request.absolute else _ADD,
        (
            request.input_tokens,
            request.output_tokens,
            request.cache_read_tokens,
            request.cache_write_tokens,
            request.reasoning_tokens,
            request.estimated_cost_usd,
            request.actual_cost_usd,
            request.cost_status,
            request.cost_source,
            request.pricing_version,
            request.billing_provider,
            request.billing_base_url,
            request.billing_mode,
            request.model,
            request.session_id,
        ),
    )
