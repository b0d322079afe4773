"""Everything that ``server.stats`` answers, from the parts that know it."""

import os
import time
from typing import Any

from sessiond.feed import Feed
from sessiond.inbox import Inbox
from sessiond.jobs import Jobs
from sessiond.listener import Listener
from sessiond.live_settings import LiveSettings
from sessiond.notify import is_managed
from sessiond.reads import ReadPool
from sessiond.server import Server
from sessiond.sqlite.keeper import Keeper
from sessiond.stats import ReadStats, WriterStats, process_figures
from sessiond.version import VERSION
from sessiond.work import Fate


class Statistics:
    """Asks the parts of a daemon. ``pool``, ``feed`` and ``jobs`` are there once it serves."""

    def __init__(
        self,
        keeper: Keeper,
        listener: Listener,
        inbox: Inbox,
        writer: WriterStats,
        reads: ReadStats,
        settings: LiveSettings,
    ) -> None:
        self._keeper = keeper
        self._listener = listener
        self._inbox = inbox
        self._writer = writer
        self._reads = reads
        self._settings = settings
        self._started = time.time()
        self.pool: ReadPool | None = None
        self.feed: Feed | None = None
        self.jobs: Jobs | None = None

    def of(self, server: Server) -> dict[str, Any]:
        """All of it, as plain values. On the event loop."""
        writer = self._writer
        done = writer.requests
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "managed": self._listener.inherited or is_managed(os.environ, os.getpid()),
            "state": server.state.value,
            "started": self._started,
            "database": self._keeper.path,
            "socket": self._listener.path,
            "total_writes": done[Fate.APPLIED] + done[Fate.FAILED],
            "write_count": done[Fate.APPLIED],
            "batched_writes": writer.batch_size.total,
            "batch_count": writer.batches,
            "pending_writes": self._inbox.requests,
            "pool_size": self._settings.now.pool_size,
            "inbox": {"requests": self._inbox.requests, "bytes": self._inbox.bytes},
            "watchers": self.feed.watched if self.feed is not None else 0,
            "connections": len(server.connections),
            "accepted": server.accepted,
            "refused": server.refused,
            "clients": server.clients(),
            "writer": writer.snapshot(),
            "reads": self._reads.snapshot(),
            "reads_waiting": self.pool.waiting if self.pool is not None else 0,
            **(self.jobs.statistics() if self.jobs is not None else {}),
            "settings": self._settings.described(),
            **process_figures(),
            **self._keeper.health(),
        }
