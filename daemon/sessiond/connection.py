"""One client's connection on the event loop: bytes in, work out, answers back."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, cast

from sessiond.bursts import burst_of
from sessiond.connection_limits import ConnectionLimits
from sessiond.decoding import decode_work
from sessiond.reads_in_order import ReadsInOrder
from sessiond.work import PARKED, Entry, Work
from sessiond_protocol import wire
from sessiond_protocol.channel import CLIENT_ID_BYTES
from sessiond_protocol.errors import Code, Failure
from sessiond_protocol.requests import Kind
from sessiond_protocol.requests.server import RequestStatus, ServerHello, ServerPing

log = logging.getLogger("sessiond.connection")

# Requests decoded between two looks at the bounds.
_AT_ONCE: Final = 64


class Hub(Protocol):
    """What a connection needs of the daemon around it."""

    def opened(self, connection: "Connection") -> bool:
        """A connection was made; False refuses it."""
        ...

    def closed(self, connection: "Connection") -> None:
        """A connection is gone."""
        ...

    def submit_writes(self, works: list[Entry]) -> None:
        """Put requests into the writer's inbox."""
        ...

    def submit_read(self, work: Work) -> None:
        """Hand a read to the pool."""
        ...

    def answer_control(self, connection: "Connection", work: Work) -> Any:
        """Answer a request on the event loop, ``PARKED``: later. Raises :class:`Failure`."""
        ...

    def greeted(self, connection: "Connection", hello: ServerHello) -> None:
        """Hello arrived: take over the channel. Raises :class:`Failure`."""
        ...

    @property
    def congested(self) -> bool:
        """Whether the inbox is full, so that nobody should have more than one request in it."""
        ...

    def stalled(self, connection: "Connection") -> None:
        """A connection is not read because the inbox is full."""
        ...


class Connection(asyncio.Protocol):
    """Parses, validates and accounts one connection's requests.

    ``client_id`` is its channel after hello. ``pending`` counts requests not answered yet,
    ``pending_bytes`` their size; at the bound the socket is not read.
    """

    def __init__(self, hub: Hub, limits: ConnectionLimits) -> None:
        self._hub = hub
        self._limits = limits
        self._reader = wire.FrameReader(limits.max_request_bytes)
        self._transport: asyncio.Transport | None = None
        self.closed = False
        self.writing_paused = False  # the peer does not take what is written fast enough
        self.client_id: bytes | None = None
        self.program = ""
        self.peer: Any = None
        self.opened_at = time.time()
        self.requests = 0
        self.pending = self.pending_bytes = 0
        self._order = ReadsInOrder()
        self._paused = False
        self._decoding = False  # a large frame is with a decoding thread
        self._superseded = False
        self._at_end = False
        self._received_at = 0.0
        self._sent = self._taken = 0
        self._took_at = time.monotonic()

    # --- the transport's side --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ready."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.max_answer_bytes // 8)
        if not self._hub.opened(self):
            self.closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone or was cut off."""
        self.closed = True
        self._order.clear()
        self._hub.closed(self)

    def pause_writing(self) -> None:
        """The transport holds more than the peer takes."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.writing_paused = False

    def eof_received(self) -> bool:
        """Half-closed: answer what was read, then close."""
        self._at_end = True
        self._close_when_answered()
        return True

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self.closed or self._superseded:
            return
        self._received_at = time.monotonic()
        if not self._reader.waiting and len(data) <= self._limits.largest_whole:
            # Whoever waits for each answer sends one at a time: there is nothing to cut.
            whole = wire.whole_request(data)
            if whole is not None and not self._must_stop():
                works: list[Entry] = []
                self._take(whole, len(data), works)
                self._submit(works)
                self._regulate()
                return
        self._reader.feed(data)
        self.process()

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of a connection that was made."""
        assert self._transport is not None
        return self._transport

    # --- frames ----------------------------------------------------------------------------

    def process(self) -> None:
        """Decode what is here, until it is used up or a bound is reached."""
        works: list[Entry] = []
        large = self._limits.thread_decode_bytes
        try:
            while room := self._room():
                data, sizes = self._reader.next_frames(room, large)
                if not sizes:
                    break
                if sizes[0] > large:
                    self._decode_aside(data)
                    break
                self._take_all(wire.decode_frames(data, sizes), sizes, works)
        except wire.FrameError as error:
            self._submit(works)
            self._fail_stream(error)
            return
        self._submit(works)
        self._regulate()

    def _room(self) -> int:
        """How many requests may be decoded now."""
        if self._must_stop():
            return 0
        if self._hub.congested:
            return 1
        return min(_AT_ONCE, self._limits.max_requests - self.pending)

    def _must_stop(self) -> bool:
        """Whether a bound is reached.

        While others fill the inbox, one request of each connection still finds its way in:
        else whoever asks for one thing at a time would never come to it.
        """
        limits = self._limits
        return (
            self._decoding
            or self.closed
            or self._superseded
            or self.pending >= limits.max_requests
            or self.pending_bytes >= limits.max_bytes
            or (self._hub.congested and self.pending > 0)
            or self.transport.get_write_buffer_size() > limits.max_answer_bytes
        )

    def _decode_aside(self, frame: bytes) -> None:
        """Decode a large frame on a thread, so that it delays nobody else; order is kept."""
        self._decoding = True
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(None, self._decode_whole, frame)
        future.add_done_callback(self._decoded_aside)

    def _decode_whole(self, data: bytes) -> list[Work]:
        frame = wire.decode_frame(data)
        return [self._decode(frame, len(data))] if isinstance(frame, wire.RequestFrame) else []

    def _decoded_aside(self, future: "asyncio.Future[list[Work]]") -> None:
        self._decoding = False
        if self.closed or self._superseded:
            future.exception()
            return
        error = future.exception()
        if isinstance(error, wire.FrameError):
            self._fail_stream(error)
            return
        works: list[Entry] = []
        for work in future.result():
            self._route(work, works)
        self._submit(works)
        self.process()

    def _take_all(self, frames: Iterable[wire.Frame], sizes: list[int], works: list[Entry]) -> None:
        limits = self._limits
        burst = burst_of(self, frames, sizes, self._received_at, limits.default_ttl, limits.max_ttl)
        if burst is None:
            for frame, size in zip(frames, sizes, strict=True):
                self._take(frame, size, works)
        else:
            self.requests += burst.count
            self._order.wrote(range(burst.seq, burst.seq + burst.count))
            self._count(burst)
            works.append(burst)

    def _take(self, frame: wire.Frame, size: int, works: list[Entry]) -> None:
        if isinstance(frame, wire.AnyRequestFrame):
            self._route(self._decode(frame, size), works)
        # Responses answer nothing we asked, and notifications we do not know are ignored.

    def _route(self, work: Work, works: list[Entry]) -> None:
        request = work.request
        self.requests += 1
        kind = request.KIND
        if kind is Kind.WRITE and (work.seq is not None or work.failure is None):
            if work.seq is not None:
                self._order.wrote((work.seq,))
            self._count(work)
            works.append(work)
            return
        if work.failure is not None:
            self.send(wire.error_response(work.msgid, work.failure.wire()))
            return
        try:
            if kind is Kind.READ:
                self._submit(works)
                works.clear()
                self._read(work)
            elif kind is Kind.WRITER:
                self._to_writer(work)
                self._count(work)
                works.append(work)
            else:
                result = self._hub.answer_control(self, work)
                if result is PARKED:
                    self._count(work)
                else:
                    self.send(wire.response(work.msgid, result))
        except Failure as failure:
            self.send(wire.error_response(work.msgid, failure.wire()))

    def _to_writer(self, work: Work) -> None:
        if isinstance(work.request, ServerHello):
            hello = work.request
            if hello.client_id is not None and len(hello.client_id) != CLIENT_ID_BYTES:
                raise Failure(
                    Code.INVALID_PARAMS,
                    f"client_id of {len(hello.client_id)} bytes, {CLIENT_ID_BYTES} are expected",
                )
            self._hub.greeted(self, hello)
            self.client_id = hello.client_id
            self.program = hello.client
        else:
            assert isinstance(work.request, RequestStatus | ServerPing)

    def _decode(self, frame: wire.AnyRequestFrame, size: int) -> Work:
        limits = self._limits
        return decode_work(self, frame, size, self._received_at, limits.default_ttl, limits.max_ttl)

    # --- work on its way -------------------------------------------------------------------

    def _submit(self, works: list[Entry]) -> None:
        if works:
            self._hub.submit_writes(list(works))

    def _count(self, work: Entry) -> None:
        self.pending += work.count
        self.pending_bytes += work.size

    def _read(self, work: Work) -> None:
        self._count(work)
        if not self._order.holds(work):
            self._hub.submit_read(work)

    def answered(self, data: bytes, works: Sequence[Entry]) -> None:
        """Answers of this connection, to be sent now."""
        for work in works:
            self.pending -= work.count
            self.pending_bytes -= work.size
            self._order.answered(work)
        if self.closed:
            return
        for read in self._order.released():
            self._hub.submit_read(read)
        self.send(data)
        if self._paused or self._reader.waiting:
            self.process()
        if self._at_end:
            self._close_when_answered()

    def send(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        if data and not self.closed:
            self._sent += len(data)
            self.transport.write(data)

    # --- bounds ----------------------------------------------------------------------------

    def _regulate(self) -> None:
        """Read the socket only while there is room for what it brings."""
        stop = self._must_stop()
        if stop and self._hub.congested:
            self._hub.stalled(self)
        if stop and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        elif not stop and self._paused:
            self._paused = False
            self.transport.resume_reading()

    def look_after(self, now: float) -> None:
        """Cut off a peer that sends half a frame or does not take its answers."""
        if self.closed:
            return
        buffered = self.transport.get_write_buffer_size()
        if self._sent - buffered != self._taken or not buffered:
            self._taken = self._sent - buffered
            self._took_at = now
        elif (
            buffered > self._limits.max_answer_bytes
            and now - self._took_at > self._limits.answer_stall
        ):
            log.warning(
                "cutting off %s: %d bytes of answers not taken for %.0f s",
                self.label, buffered, now - self._took_at,
            )  # fmt: skip
            self.transport.abort()
            return
        stalled = now - self._received_at > self._limits.frame_stall
        if self._reader.waiting and stalled and not self._paused and not self._decoding:
            self._fail_stream(
                wire.FrameError(
                    f"half a message of {self._reader.waiting} bytes did not grow"
                    f" for {self._limits.frame_stall:g} s"
                )
            )
        elif self._paused:
            self.process()

    def supersede(self) -> None:
        """The channel moved to a newer connection: read no more, answer nobody."""
        self._superseded = True
        self.transport.abort()

    def refuse(self, failure: Failure) -> None:
        """Say why, then close."""
        self.send(wire.error_response(0, failure.wire()))
        self.close()

    def close(self) -> None:
        """Close once everything handed to the transport is sent."""
        self.closed = True
        self.transport.close()

    def stop_reading(self) -> None:
        """Read and decode no more; what was read is still answered."""
        self._superseded = True
        if not self.closed:
            self.transport.pause_reading()

    def _close_when_answered(self) -> None:
        if not self.pending and not self._decoding and not self.closed:
            self.close()

    def _fail_stream(self, error: wire.FrameError) -> None:
        """One error and a close: the stream cannot be trusted any more."""
        code = Code.TOO_LARGE if "exceeds" in str(error) else Code.INVALID_PARAMS
        log.info("closing %s: %s", self.label, error)
        self.refuse(Failure(code, str(error)))

    @property
    def label(self) -> str:
        """Who this is, for people."""
        return f"{self.program or 'a client'} ({self.peer})"
