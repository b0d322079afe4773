"""The daemon, wired together: open, serve, drain. The parts do not know each other's making."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sessiond.batching import BatchLimits, BatchRule
from sessiond.between import BetweenBatches
from sessiond.connection_limits import ConnectionLimits
from sessiond.database import Applied, UnsafeFile
from sessiond.feed import Feed
from sessiond.heartbeat import Heartbeat, Phase
from sessiond.inbox import Inbox
from sessiond.job_desk import JobDesk
from sessiond.listener import Listener
from sessiond.live_settings import LiveSettings
from sessiond.metrics import listen
from sessiond.notify import Notifier
from sessiond.peers import Policy
from sessiond.reads import ReadPool
from sessiond.server import Served, Server, State
from sessiond.settings import Settings
from sessiond.slow_log import SlowLog
from sessiond.sqlite.keeper import Keeper
from sessiond.sqlite.refusal import OpenRefused
from sessiond.sqlite.retention import Rule
from sessiond.statistics import Statistics
from sessiond.stats import ReadStats, WriterStats
from sessiond.status_line import status_line
from sessiond.version import VERSION
from sessiond.writer import Writer
from sessiond_protocol.requests.feed import Event

log = logging.getLogger("sessiond")

EX_IOERR: Final = 74
LOOK_SECONDS: Final = 1.0
JOB_SECONDS: Final = 5.0


def retention_of(settings: Settings) -> Rule:
    """Which old sessions are deleted."""
    return Rule(settings.retention_days, settings.retention_sources)


class StoppedEarly(Exception):
    """A signal came while the database was being migrated."""


class Daemon:
    """One database served on one socket, until a signal or an alarm.

    ``keeper`` holds the daemon's lock on the file already; the listener is bound or adopted.
    """

    def __init__(
        self,
        live: LiveSettings,
        keeper: Keeper,
        listener: Listener,
        notifier: Notifier,
        watchdog: float | None,
        ready: Callable[[], None],
    ) -> None:
        self._live = live
        settings = live.now
        self._keeper = keeper
        self._listener = listener
        self._ready = ready
        self._slow = SlowLog(settings.slow_request)
        self._writer_stats = WriterStats(self._slow)
        self._read_stats = ReadStats(self._slow)
        self._inbox = Inbox(settings.inbox_max_requests, settings.inbox_max_bytes)
        self._heartbeat = Heartbeat(notifier, watchdog, self._inbox.put_errand)
        self._errands = BetweenBatches(self._inbox)
        self._statistics = Statistics(
            keeper, listener, self._inbox, self._writer_stats, self._read_stats, live
        )
        self._feed: Feed | None = None
        self._opening = f"opening {keeper.path}"

    async def run(self) -> int:
        """Serve until told to stop; the exit status."""
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._server = server = self._make_server()
        self._acceptor = await self._accept()
        beating = asyncio.create_task(self._heartbeat.run(lambda: server.pending, self._status))
        metrics = listen(
            self._settings.metrics_listen, self.statistics, lambda: self._heartbeat.silence
        )
        try:
            return await self._serve(server)
        finally:
            beating.cancel()
            if metrics is not None:
                await asyncio.to_thread(metrics.close)

    async def _serve(self, server: Server) -> int:
        try:
            writer, pool = await self._open(server)
        except OpenRefused as refused:
            log.error("%s", refused)
            self._heartbeat.say(str(refused))
            self._keeper.failed(str(refused))
            self._listener.unlink()
            return refused.exit_status
        except UnsafeFile as unsafe:
            self._alarm(unsafe)
        except StoppedEarly:
            log.info("stopped while the database was migrated; the next start goes on with it")
            self._keeper.stopped_early()
            self._listener.unlink()
            return 0
        await self._look_after(server)
        self._acceptor.close()
        await self._drain(server, writer, pool)
        return 0

    async def _accept(self) -> asyncio.AbstractServer:
        """Accept connections on the listener's socket."""
        assert self._listener.socket is not None
        return await asyncio.get_running_loop().create_unix_server(
            self._server.protocol, sock=self._listener.socket
        )

    def _make_server(self) -> Server:
        settings = self._settings
        limits = ConnectionLimits(
            max_request_bytes=settings.max_request_bytes,
            max_requests=settings.connection_max_requests,
            max_bytes=settings.connection_max_bytes,
            max_answer_bytes=settings.answer_max_bytes,
            answer_stall=settings.answer_stall,
            frame_stall=settings.frame_stall,
            thread_decode_bytes=settings.thread_decode_bytes,
            default_ttl=settings.read_timeout,
            max_ttl=1800.0,
        )
        identity = self._keeper.identity
        served = Served(self._keeper.path, identity[0], identity[1], VERSION)
        policy = Policy.of(settings, self._listener.group)
        return Server(
            served, self._inbox, limits, policy, settings.max_connections, self.statistics
        )

    async def _open(self, server: Server) -> tuple[Writer, ReadPool]:
        """Open the database on a thread: early clients are told to wait, not refused."""

        def migrating(seconds: float) -> None:
            server.state = State.MIGRATING
            server.ready_at = time.monotonic() + seconds
            self._keeper.migrating(self._listener.path)
            if seconds >= 1:
                log.info("migrating %s, about %.0f s", self._keeper.path, seconds)

        def progress(step: str, fraction: float) -> None:
            if self._stop.is_set():
                raise StoppedEarly
            self._heartbeat.beat()
            self._opening = f"migrating {self._keeper.path}: {step}, {fraction:.0%}"

        settings = self._settings
        self._keeper.connected = server.connected
        self._keeper.retention = retention_of(settings)
        self._keeper.deleted = self._deleted
        store = await asyncio.to_thread(
            self._keeper.open, migrating, progress, self._heartbeat.beat
        )
        store.restored = partial(self._restored, asyncio.get_running_loop())
        limits = BatchLimits(
            settings.batch_max_requests,
            settings.batch_max_bytes,
            settings.batch_max_delay,
            settings.batch_siblings,
        )
        writer = Writer(
            self._inbox,
            store,
            BatchRule(limits),
            self._writer_stats,
            deliver=server.deliver,
            welcome=server.welcome,
            committed=self._committed,
            alarm=self._alarm,
        )
        pool = self._statistics.pool = ReadPool(
            self._keeper.path,
            settings.pool_size,
            self._read_stats,
            server.deliver_read,
            index_damaged=lambda text: self._inbox.put_errand(lambda: store.index_unreadable(text)),
        )
        send, errand = server.deliver_events, self._inbox.put_errand
        self._feed = Feed(self._keeper.path, store.generation, send, store, errand)
        self._statistics.feed = self._feed
        self._desk = JobDesk(self._keeper.job_work, self._errands)
        self._statistics.jobs = self._desk.jobs
        writer.start()
        pool.start()
        self._feed.start()
        server.serve(pool, self._feed, self._desk)
        self._keeper.serving(self._listener.path)
        self._heartbeat.ready(self._status())
        self._ready()
        log.info("serving %s on %s", self._keeper.path, self._listener.path)
        return writer, pool

    async def _look_after(self, server: Server) -> None:
        """The regular looks, until told to stop."""
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), LOOK_SECONDS)
            except TimeoutError:
                server.look_after(time.monotonic())
                await self._stay_reachable()
                if self._is_idle(server) and await self._leave(server):
                    return

    async def _stay_reachable(self) -> None:
        """Listen again where a cleaner of /tmp removed the socket.

        Where a service manager took the place, the daemon that it will start takes over.
        """
        if self._listener.is_in_place:
            return
        if self._listener.is_replaced:
            log.info("somebody else listens on %s now, leaving it to them", self._listener.path)
            self._stop.set()
            return
        log.warning("%s was removed by somebody else, listening there again", self._listener.path)
        await self._listen_again()

    async def _listen_again(self) -> None:
        older = self._acceptor
        try:
            self._listener.bind_again()
            self._acceptor = await self._accept()
        except OSError as error:
            log.error("cannot listen on %s: %s", self._listener.path, error)
            return
        older.close()

    def _is_idle(self, server: Server) -> bool:
        limit = self._settings.idle_exit
        if not limit or server.connections or self._inbox.requests or self._desk.jobs.running:
            return False
        return time.monotonic() - server.last_activity > limit

    async def _leave(self, server: Server) -> bool:
        """Leave after a long time without anybody, unless somebody comes at this moment.

        The name goes first; whoever is in the backlog by then is accepted and kept.
        """
        self._keeper.stopping()
        self._listener.unlink()
        await asyncio.sleep(0.05)
        if server.connections or self._listener.inherited:
            if self._listener.inherited and not server.connections:
                return True
            await self._listen_again()
            self._keeper.serving(self._listener.path)
            return False
        log.info("nobody was here for %g s, leaving", self._settings.idle_exit)
        return True

    def _reload(self) -> None:
        """SIGHUP: take over the settings that can change while the daemon runs."""
        if self._heartbeat.phase is not Phase.SERVING:
            self._read_settings()
            return
        self._heartbeat.reloading()
        self._read_settings()
        self._heartbeat.ready(self._status())

    def _read_settings(self) -> None:
        self._live.read_again()
        logging.getLogger().setLevel(self._settings.log_level.upper())
        self._slow.threshold = self._settings.slow_request
        self._keeper.retention = retention_of(self._settings)

    @property
    def _settings(self) -> Settings:
        return self._live.now

    def _committed(self, applied: Applied) -> None:
        """What each batch changed; on the writer's thread."""
        assert self._feed is not None
        self._heartbeat.beat()
        self._feed.committed(applied.last_message_id, applied.events)

    def _restored(
        self, loop: asyncio.AbstractEventLoop, generation: bytes, last_message_id: int
    ) -> None:
        """Another history is in the database; on the writer's thread, between two batches.

        What waits was meant for the one before: its clients are told that nobody knows what
        became of it, when they come back and learn of the new generation.
        """
        assert self._feed is not None
        self._inbox.discard_all()
        self._feed.begin_again(generation, last_message_id)
        loop.call_soon_threadsafe(self._begin_again)

    def _begin_again(self) -> None:
        self._server.close_all()
        self._keeper.serving(self._listener.path)
        log.warning("the database was restored from a backup; everybody has to connect again")

    def _deleted(self, events: list[Event]) -> None:
        """What retention deleted; on the writer's thread."""
        assert self._feed is not None
        self._feed.committed(0, events)

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
            if self._server.state in (State.STARTING, State.MIGRATING):
                # Every step of opening is made to be cut short, and some cannot be asked to end.
                log.warning("stopping at once; the next start goes on with the migration")
                os._exit(0)
        self._stop.set()

    async def _drain(self, server: Server, writer: Writer, pool: ReadPool) -> None:
        """Commit and answer what was accepted, checkpoint, close; cut short by a second signal."""
        log.info("stopping: %d requests are on their way", server.pending)
        self._heartbeat.stopping(self._draining())
        self._keeper.stopping()
        self._listener.unlink()
        server.stop_reading()
        self._desk.close()
        deadline = time.monotonic() + self._settings.drain_timeout
        drained = asyncio.create_task(asyncio.to_thread(self._end_writing, writer, deadline))
        hurried = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({drained, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        finished = drained.done() and drained.result()
        self._desk.release()
        while finished and time.monotonic() < deadline and not self._hurry.is_set():
            if not server.pending and not server.unsent:
                break
            await asyncio.sleep(0.005)
        await asyncio.to_thread(pool.stop, 1.0)
        assert self._feed is not None
        await asyncio.to_thread(self._feed.stop)
        server.close_all()
        if not finished:
            log.warning("stopping without waiting for the writer; what was answered is safe")
            os._exit(0)
        await asyncio.to_thread(self._keeper.close)
        log.info("stopped")

    def _end_writing(self, writer: Writer, deadline: float) -> bool:
        """End the jobs, then the writer; False if it is still at work at the deadline."""
        jobs = self._desk.jobs
        jobs.stop()
        if not jobs.join(min(JOB_SECONDS, deadline - time.monotonic())):
            log.warning("stopping without waiting for a job to clean up")
        self._inbox.close()
        finished = writer.join(max(0.0, deadline - time.monotonic()))
        if finished:
            self._errands.close()
        return finished

    def _alarm(self, unsafe: UnsafeFile) -> None:
        """Nothing may be answered and nothing closed: say why and leave."""
        log.critical("%s", unsafe)
        self._heartbeat.say(f"stopped at once: {unsafe}")
        self._keeper.abandon(str(unsafe))
        logging.shutdown()
        os._exit(EX_IOERR)

    def _status(self) -> str:
        """What the service manager shows."""
        if self._heartbeat.phase is Phase.STOPPING:
            return self._draining()
        if self._server.state is State.SERVING:
            return status_line(self.statistics())
        return self._opening

    def _draining(self) -> str:
        return f"draining, {self._server.pending:,} still to answer"

    def statistics(self) -> dict[str, Any]:
        """Everything that ``server.stats`` answers."""
        return self._statistics.of(self._server)
