"""Metrics and health over HTTP, for this machine alone."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from sessiond.settings import host_and_port
from sessiond.thread_names import show_name
from sessiond_protocol.health import troubles

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger("sessiond.metrics")

# Whoever asks for metrics asks one thing at a time, and quickly.
_MOST_AT_ONCE: Final = 8
_SECONDS: Final = 5.0
_LOOP_SECONDS: Final = 3.0
# A writer that was not heard of for so long hangs; a commit may wait long for a slow disk.
SILENT_SECONDS: Final = 180.0
_TEXT: Final = "text/plain; charset=utf-8"

Page = tuple[str, str, bytes]


class Unanswered(Exception):
    """The event loop did not answer in time."""


class Pages:
    """``/metrics``, ``/healthz`` and ``/readyz``, from what the daemon says of itself.

    ``statistics`` asks the event loop, and raises :class:`Unanswered`; ``silence`` is how many
    seconds ago the writer was heard of.
    """

    def __init__(
        self, statistics: Callable[[], Mapping[str, Any]], silence: Callable[[], float]
    ) -> None:
        self._statistics = statistics
        self._silence = silence
        self._pages: dict[str, Callable[[], Page]] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }

    def page(self, path: str) -> Page:
        """Status, content type and body."""
        show = self._pages.get(path)
        if show is None:
            known = ", ".join(self._pages)
            return "404 Not Found", _TEXT, f"there are {known} here\n".encode()
        try:
            return show()
        except Unanswered:
            return _unavailable("the event loop does not answer")

    def _metrics(self) -> Page:
        # Imported when it is wanted: most daemons have no such listener.
        from sessiond_protocol.metrics import CONTENT_TYPE, render

        return "200 OK", CONTENT_TYPE, render(self._statistics())

    def _healthz(self) -> Page:
        """Whether it is alive: a supervisor should restart it if not."""
        state = self._statistics()["state"]
        silence = self._silence()
        if state == "serving" and silence > SILENT_SECONDS:
            return _unavailable(f"the writer was not heard of for {silence:.0f} s")
        return "200 OK", _TEXT, b"alive\n"

    def _readyz(self) -> Page:
        """Whether it serves as it should: reads and writes, right now."""
        stats = self._statistics()
        if stats["state"] == "serving" and stats.get("writable", True):
            return "200 OK", _TEXT, b"ready\n"
        return _unavailable("; ".join(troubles(stats)))


def _unavailable(why: str) -> Page:
    return "503 Service Unavailable", _TEXT, f"{why}\n".encode()


def listen(
    address: str | None, statistics: Callable[[], dict[str, Any]], silence: Callable[[], float]
) -> "MetricsListener | None":
    """The listener at a parsed ``address``, where one is wanted and can be had.

    Called on the event loop, on which ``statistics`` will be asked.
    """
    if address is None:
        return None
    loop = asyncio.get_running_loop()

    async def on_loop() -> dict[str, Any]:
        return statistics()

    def ask() -> dict[str, Any]:
        asked = asyncio.run_coroutine_threadsafe(on_loop(), loop)
        try:
            return asked.result(_LOOP_SECONDS)
        except (TimeoutError, CancelledError):
            asked.cancel()
            raise Unanswered from None

    try:
        listener = MetricsListener(*host_and_port(address), Pages(ask, silence))
    except OSError as error:
        # Nobody loses a message for want of metrics.
        log.error("no metrics are served, metrics_listen %s: %s", address, error.strerror)
        return None
    log.info("metrics are served at http://%s/metrics", address)
    return listener


class MetricsListener:
    """Serves :class:`Pages` on threads of its own, so that nobody waits for whoever asks.

    Raises ``OSError`` if it cannot listen.
    """

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self._server = _Server((host, port), pages)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def _run(self) -> None:
        show_name()
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = _MOST_AT_ONCE

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._pages = pages
        self._room = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, _Handler)
        self.set_app(self._answer)

    def server_bind(self) -> None:
        """As the base class, without its look-up of a host name, which may take seconds."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each, up to a bound."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread's work."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked is gone, or spoke something else than HTTP: nothing to do."""
        log.debug("a request for metrics failed", exc_info=True)

    def _answer(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, kind, body = "405 Method Not Allowed", _TEXT, b"GET is what there is\n"
        else:
            status, kind, body = self._pages.page(environ.get("PATH_INFO", ""))
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing per request."""
