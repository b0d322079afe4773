"""Requests that took long, one line each, or one for all of a batch."""

import logging

from sessiond.database import Applied
from sessiond.work import Entry, Work, requests_in

log = logging.getLogger("sessiond.slow")


class SlowLog:
    """Says which requests took longer than ``threshold`` seconds, and where the time went.

    0 says nothing. The threshold may be changed at any time. Any thread may call.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def batch(self, applied: Applied, taken: float, committed: float) -> None:
        """Writes that were committed together; ``taken`` is when they left the inbox."""
        threshold = self.threshold
        if not threshold:
            return
        since = committed - threshold
        slow = [work for work in applied.works if work.received < since]
        if not slow:
            return
        oldest = min(slow, key=lambda work: work.received)
        log.warning(
            "slow write",
            extra={
                "method": oldest.method,
                "seconds": committed - oldest.received,
                "waited": taken - oldest.received,
                "lock": applied.begin_seconds,
                "applying": applied.apply_seconds,
                "commit": applied.commit_seconds,
                "batch": requests_in(applied.works),
                "slow": requests_in(slow),
                "client": _name(oldest),
            },
        )

    def read(self, work: Work, started: float, answered: float) -> None:
        """A read, whose work began at ``started``."""
        threshold = self.threshold
        seconds = answered - work.received
        if threshold and seconds > threshold:
            log.warning(
                "slow read",
                extra={
                    "method": work.request.METHOD,
                    "seconds": seconds,
                    "waited": started - work.received,
                    "client": _name(work),
                },
            )


def _name(work: Entry) -> str:
    """Who asked, for people."""
    return str(getattr(work.peer, "label", "?"))
