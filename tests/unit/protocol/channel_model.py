"""A daemon without sockets, threads or SQL: the channel's rules over a list of applied writes."""

import copy
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import msgspec

from sessiond_protocol import wire
from sessiond_protocol.channel import MAX_UNDECIDED, ChannelRun, ServerChannel, Verdict
from sessiond_protocol.errors import Code
from sessiond_protocol.receipts import IdReceipts, Receipt, digest, load_receipts, store_receipts
from sessiond_protocol.requests import REQUESTS, Kind, Request
from sessiond_protocol.requests.message import MessageAppend
from sessiond_protocol.requests.server import DatabaseFile, Limits, ServerHello, Welcome

NIL = msgspec.Raw(wire.pack(None))
MAX_REQUEST_BYTES = 100_000


class Fate(Enum):
    """What happens to one write that a batch would apply."""

    APPLY = auto()
    FAIL = auto()  # for a reason of the request: decided
    FULL = auto()  # refusals for a reason of the daemon: nothing is decided
    OVERLOADED = auto()


class End(Enum):
    """How a batch ends."""

    COMMIT = auto()
    REFUSED = auto()  # the transaction could not be committed
    CRASH_BEFORE = auto()  # killed before the commit
    CRASH_AFTER = auto()  # killed after the commit, before any answer


@dataclass
class File:
    """What survives a restart: writes that were applied, and the channels' rows."""

    generation: int = 0
    applied: list[int] = field(default_factory=list)
    clients: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    receipts: dict[bytes, dict[int, bytes]] = field(default_factory=dict)

    def load(self, client_id: bytes) -> ServerChannel:
        """A channel as a daemon finds it after its start."""
        if client_id not in self.clients:
            return ServerChannel()
        last, floor = self.clients[client_id]
        channel = ServerChannel(last, floor, known=True)
        rows = self.receipts.get(client_id, {}).values()
        for receipt in sorted((each for row in rows for each in load_receipts(row)), key=_seq):
            channel.receipts[receipt.seq] = receipt
        return channel

    def store(self, client_id: bytes, run: ChannelRun) -> None:
        """What a batch decided for one channel, as one row."""
        if not run.decided:
            return
        self.clients[client_id] = (run.last, run.floor)
        rows = self.receipts.setdefault(client_id, {})
        for last_seq in [each for each in rows if each < run.floor]:
            del rows[last_seq]
        kept = [receipt for receipt in run.decided if receipt.last >= run.floor]
        if kept:
            rows[run.last] = store_receipts(kept)


def _seq(receipt: Receipt) -> int:
    return receipt.seq


@dataclass
class Numbered:
    """One request that was read from a connection."""

    msgid: int
    request: Request[Any]
    place: wire.Place
    identity: bytes


class Connection:
    """The daemon's end of one connection; ``inbound`` was sent and has not been read yet."""

    def __init__(self) -> None:
        self.inbound = bytearray()
        self.outbound = bytearray()
        self.inbox: list[Numbered] = []
        self.client_id: bytes | None = None
        self.superseded = False
        self.epoch = 0  # of the daemon when it answered hello
        self._reader = wire.FrameReader(MAX_REQUEST_BYTES)

    def read(self, amount: int) -> list[Numbered]:
        """Take bytes in; the requests they complete."""
        data = bytes(self.inbound[:amount])
        del self.inbound[:amount]
        if self.superseded:
            return []
        self._reader.feed(data)
        found = []
        while (frame := self._reader.next_frame()) is not None:
            found.append(_request(frame))
        return found

    def answer(self, msgid: int, result: Any) -> None:
        self.outbound += wire.response(msgid, result)

    def fail(self, msgid: int, code: str, data: dict[str, Any] | None = None) -> None:
        self.outbound += wire.error_response(msgid, (code, code, data))


Write = tuple[Connection, Numbered, Fate]


def _request(frame: bytes) -> Numbered:
    decoded = wire.decode_frame(frame)
    assert isinstance(decoded, wire.RequestFrame)
    method = msgspec.msgpack.decode(decoded.method, type=str)
    arguments = bytes(decoded.params[0])
    place = wire.decode_place(decoded.params[1]) if len(decoded.params) > 1 else wire.Place()
    request = msgspec.msgpack.decode(arguments, type=REQUESTS[method])
    return Numbered(decoded.msgid, request, place, digest(method, arguments))


class Daemon:
    """Reads requests, applies them in batches, answers after the commit."""

    def __init__(self, max_undecided: int = MAX_UNDECIDED) -> None:
        self.file = File()
        self.max_undecided = max_undecided
        self.connections: list[Connection] = []
        self.epoch = 0  # how often the file went back
        self.verdicts: list[Verdict] = []
        self._channels: dict[bytes, ServerChannel] = {}

    # --- connections -----------------------------------------------------------------------

    def accept(self) -> Connection:
        connection = Connection()
        self.connections.append(connection)
        return connection

    def read(self, connection: Connection, amount: int) -> None:
        """Bytes of a connection arrive, maybe long after the client has let go of it."""
        for each in connection.read(amount):
            if isinstance(each.request, ServerHello):
                self._greeted(connection, each.request)
            connection.inbox.append(each)

    def _greeted(self, connection: Connection, hello: ServerHello) -> None:
        """Drop what the channel's older connections have waiting, before hello is answered."""
        for older in self.connections:
            if older is not connection and older.client_id == hello.client_id:
                older.superseded = True
                older.inbox.clear()
        connection.client_id = hello.client_id

    def forget(self, connection: Connection) -> None:
        """Everything of a connection that the client let go was read, and then its end."""
        self.connections.remove(connection)

    # --- batches ---------------------------------------------------------------------------

    def batch(self, size: int, first: int, fates: list[Fate], end: End) -> bool:
        """Take up to ``size`` requests and apply them; False if the daemon was killed."""
        taken = self._take(size, first)
        file = copy.deepcopy(self.file)
        runs: dict[bytes, ChannelRun] = {}
        answers: list[tuple[Connection, Numbered, Any]] = []
        writes = [
            (connection, work, fates[index % len(fates)] if fates else Fate.APPLY)
            for index, (connection, work) in enumerate(taken)
            if work.request.KIND is Kind.WRITE
        ]
        for burst in _bursts(writes):
            told = self._together(burst, file, runs)
            if told is None:
                told = [self._one(*each, file, runs) for each in burst]
            answers += [(*write[:2], answer) for write, answer in zip(burst, told, strict=True)]
        if end is End.CRASH_BEFORE:
            self.restart()
            return False
        if end is End.REFUSED:
            answers = [(each, work, self._refused(each, work)) for each, work, _ in answers]
        else:
            for client_id, run in runs.items():
                file.store(client_id, run)
            self.file = file
            if end is End.CRASH_AFTER:
                self.restart()
                return False
            for client_id, run in runs.items():
                self._channel(client_id).absorb(run)
        for connection, work, answer in answers:
            if answer is not None:
                connection.outbound += wire.pack((wire.RESPONSE, work.msgid, *answer))
        for connection, work in taken:
            if work.request.KIND is not Kind.WRITE:
                self._answer_other(connection, work)
        return True

    def _take(self, size: int, first: int) -> list[tuple[Connection, Numbered]]:
        """In the order each connection sent them, from one connection after the other."""
        taken: list[tuple[Connection, Numbered]] = []
        places = [(first + each) % len(self.connections) for each in range(len(self.connections))]
        for place in places:
            connection = self.connections[place]
            room = size - len(taken)
            taken += [(connection, work) for work in connection.inbox[:room]]
            del connection.inbox[:room]
        return taken

    def _channel(self, client_id: bytes) -> ServerChannel:
        if client_id not in self._channels:
            self._channels[client_id] = self.file.load(client_id)
        return self._channels[client_id]

    def _run(self, connection: Connection, runs: dict[bytes, ChannelRun]) -> ChannelRun:
        client_id = connection.client_id
        assert client_id is not None
        return runs.setdefault(client_id, ChannelRun(self._channel(client_id)))

    def _together(
        self, burst: list[Write], file: File, runs: dict[bytes, ChannelRun]
    ) -> list[tuple[Any, Any] | None] | None:
        """The answers of appends that are decided as one; None if that cannot be."""
        run = self._run(burst[0][0], runs)
        floors = [work.place.floor or 0 for _, work, _ in burst]
        seq = burst[0][1].place.seq
        assert seq is not None
        if len(burst) == 1 or not run.takes(seq, len(burst), min(floors), max(floors)):
            return None
        first_id = len(file.applied) + 1
        file.applied += [payload_of(work.request) for _, work, _ in burst]
        identities = b"".join(work.identity for _, work, _ in burst)
        run.decide_all(IdReceipts(seq, first_id, identities), max(floors))
        self.verdicts += [Verdict.DECIDE] * len(burst)
        return [(None, first_id + index) for index in range(len(burst))]

    def _one(
        self,
        connection: Connection,
        work: Numbered,
        fate: Fate,
        file: File,
        runs: dict[bytes, ChannelRun],
    ) -> tuple[Any, Any] | None:
        """The error and result that this write is answered with; None if it is dropped."""
        place = work.place
        assert place.seq is not None
        run = self._run(connection, runs)
        verdict = run.judge(place.seq, place.floor or 0, work.identity)
        self.verdicts.append(verdict)
        if verdict is not Verdict.DECIDE:
            return _without_deciding(verdict, run, place.seq)
        if fate is Fate.FULL:
            return _refusal(Code.DISK_FULL)
        if fate is Fate.OVERLOADED:
            return _refusal(Code.OVERLOADED)
        if fate is Fate.FAIL:
            error = (Code.INTEGRITY.value, "no such session", None)
            run.decide(Receipt(place.seq, work.identity, error, NIL))
            return error, None
        file.applied.append(payload_of(work.request))
        result = msgspec.Raw(wire.pack(result_of(work.request, len(file.applied))))
        run.decide(Receipt(place.seq, work.identity, None, result))
        return None, result

    def _refused(self, connection: Connection, work: Numbered) -> tuple[Any, Any] | None:
        """The answer when the whole batch is refused: what was decided before stays decided."""
        assert connection.client_id is not None
        assert work.place.seq is not None
        run = ChannelRun(self._channel(connection.client_id))
        verdict = run.judge(work.place.seq, work.place.floor or 0, work.identity)
        if verdict in (Verdict.DECIDE, Verdict.OUT_OF_ORDER):
            return _refusal(Code.DISK_FULL)
        return _without_deciding(verdict, run, work.place.seq)

    def _answer_other(self, connection: Connection, work: Numbered) -> None:
        if not isinstance(work.request, ServerHello):
            connection.answer(work.msgid, None)
            return
        assert work.request.client_id is not None
        channel = self._channel(work.request.client_id)
        welcome = Welcome(
            protocol=wire.PROTOCOL_VERSION,
            version="0",
            schema_version=6,
            database=DatabaseFile("/state.db", 1, 1),
            limits=Limits(MAX_REQUEST_BYTES, self.max_undecided),
            generation=self.file.generation.to_bytes(16, "big"),
            known=channel.known,
            last=channel.last,
        )
        connection.epoch = self.epoch
        connection.answer(work.msgid, welcome)

    # --- faults ----------------------------------------------------------------------------

    def restart(self) -> None:
        """Killed and started again: connections and memory are gone, the file is there."""
        self.connections.clear()
        self._channels.clear()

    def go_back(self, file: File, generation: int) -> None:
        """The file becomes an earlier one."""
        self.file = copy.deepcopy(file)
        self.file.generation = generation
        self._channels.clear()

    def expire(self) -> None:
        """Every row is a day old and unconnected."""
        self.file.clients.clear()
        self.file.receipts.clear()
        self._channels.clear()


def _bursts(writes: list[Write]) -> list[list[Write]]:
    """Appends under consecutive numbers that are to be applied, and every other write alone."""
    bursts: list[list[Write]] = []
    for write in writes:
        if bursts and _continues(bursts[-1][-1], write):
            bursts[-1].append(write)
        else:
            bursts.append([write])
    return bursts


def _continues(before: Write, write: Write) -> bool:
    appends = all(
        each.request.METHOD == MessageAppend.METHOD and fate is Fate.APPLY
        for _, each, fate in (before, write)
    )
    return (
        appends and before[0] is write[0] and write[1].place.seq == (before[1].place.seq or 0) + 1
    )


def _without_deciding(verdict: Verdict, run: ChannelRun, seq: int) -> tuple[Any, Any] | None:
    if verdict is Verdict.ANSWER:
        receipt = run.receipt(seq)
        assert receipt is not None
        return receipt.error, receipt.result
    if verdict is Verdict.DROP:
        return None
    if verdict is Verdict.REUSED:
        return (Code.CONFLICT.value, "this number was used", None), None
    return _refusal(Code.OUT_OF_ORDER)


def _refusal(code: Code) -> tuple[Any, Any]:
    return (code.value, code.value, {"applied": False}), None


def payload_of(request: Request[Any]) -> int:
    """What the test put into this write to know it by."""
    return int(getattr(request, "session_id"))  # noqa: B009 (both kinds of write have it)


def result_of(request: Request[Any], row: int) -> Any:
    """Message ids are stored as runs, everything else whole: both kinds are used."""
    return row if request.METHOD == "message.append" else None
