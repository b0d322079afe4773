"""The daemon's side of the session layer as plain dicts, and a driver that carries out plans."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from sessiond_client import Conflict, Integrity, NotFound, SessiondError
from sessiond_client.gateway.steps import Callback, Contended, FileWork, Plan, Step
from sessiond_protocol.requests import Kind, Request
from sessiond_protocol.requests.message import (
    NOT_REPLACED,
    Message,
    MessageAppend,
    MessageAppendMany,
    MessageCount,
    MessagePage,
    MessageReplace,
    Page,
)
from sessiond_protocol.requests.route import (
    Route,
    RouteGet,
    RouteImport,
    RouteList,
    RoutePlaced,
    RoutePut,
    SessionSeveral,
    Transcript,
    TranscriptState,
)
from sessiond_protocol.requests.server import ServerPing
from sessiond_protocol.requests.session import SessionEnsure, SessionGet
from sessiond_protocol.schema import MESSAGE_COLUMN_NAMES

T = TypeVar("T")


class Table:
    """Sessions with their messages, and routes; ``puts`` are the ones that were applied.

    ``outage``: the error that every write meets, if any.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.routes: dict[str, Route] = {}
        self.puts: list[RoutePut] = []
        self.messages: dict[str, list[tuple[int, Message]]] = {}
        self.marked: set[str] = set()
        self.outage: SessiondError | None = None
        self._last_id = 0

    def make(self, session_id: str, **columns: Any) -> None:
        """A session that is there already."""
        self.sessions[session_id] = {"id": session_id, "end_reason": None, **columns}

    def answer(self, step: Step) -> Any:
        """What a step gives, or raises."""
        if self.outage is not None and isinstance(step, Request) and step.KIND is Kind.WRITE:
            raise self.outage
        match step:
            case RouteGet():
                return self.routes.get(step.session_key)
            case RouteList():
                keys = sorted(key for key in self.routes if key > step.after_key)
                return [self.routes[key] for key in keys[: step.limit]]
            case RoutePut():
                return self._put(step)
            case RouteImport():
                return self._import(step)
            case SessionGet():
                return self.sessions.get(step.session_id)
            case SessionSeveral():
                return len(self.sessions) > 1
            case MessageAppend():
                return self._append(step.session_id, [step.message])[0]
            case MessageAppendMany():
                return self._append(step.session_id, step.messages)
            case MessageReplace():
                return self._replace(step)
            case MessageCount():
                return len(self.messages.get(step.session_id or "", []))
            case ServerPing():
                return None
            case MessagePage():
                return self._page(step)
            case SessionEnsure():
                self.sessions.setdefault(step.session_id, {"id": step.session_id})
                return None
            case TranscriptState():
                stored = self.messages.get(step.session_id, [])
                return Transcript(len(stored), step.session_id in self.marked)
            case Callback():
                return step.function(*step.arguments)
            case FileWork():
                return step.function()
            case Contended():
                return None
        raise NotImplementedError(step)

    def _put(self, put: RoutePut) -> RoutePlaced:
        current = self.routes.get(put.session_key)
        found = (current.version, current.session_id) if current else (0, None)
        if found != (put.expected_version, put.expected_session_id):
            return RoutePlaced(applied=False, version=found[0], route=current)
        exists = put.session_id in self.sessions
        if put.session.mode == "new" and exists:
            raise Conflict("exists already", {"session_id": put.session_id})
        if put.session.mode == "existing" and not exists:
            raise NotFound("does not exist")
        if not exists:
            self.make(put.session_id, source=put.session.source, user_id=put.session.user_id)
        if put.reopen:
            self.sessions[put.session_id]["end_reason"] = None
        if put.end is not None:
            assert put.expected_session_id not in (None, put.session_id)
            left = self.sessions.get(put.expected_session_id or "")
            if left is not None and left["end_reason"] is None:
                left["end_reason"] = put.end.reason
        version = put.expected_version + 1
        self.routes[put.session_key] = Route(
            session_key=put.session_key,
            session_id=put.session_id,
            version=version,
            updated_at=put.updated_at,
            entry=put.entry,
        )
        self.puts.append(put)
        return RoutePlaced(applied=True, version=version)

    def _import(self, request: RouteImport) -> list[str]:
        taken = []
        for each in request.routes:
            if each.session_key not in self.routes:
                self.routes[each.session_key] = Route(
                    session_key=each.session_key,
                    session_id=each.session_id,
                    version=1,
                    updated_at=each.updated_at,
                    entry=each.entry,
                )
                self.sessions.setdefault(
                    each.session_id, {"id": each.session_id, "end_reason": None}
                )
                taken.append(each.session_key)
        return taken

    def _append(self, session_id: str, messages: list[Message]) -> list[int]:
        if session_id not in self.sessions:
            raise Integrity(f"session {session_id!r} does not exist")
        stored = self.messages.setdefault(session_id, [])
        ids = []
        for message in messages:
            key = message.message_key
            known = [place for place, each in stored if key and each.message_key == key]
            if not known:
                self._last_id += 1
                known = [self._last_id]
                stored.append((self._last_id, message))
            ids.append(known[0])
        return ids

    def _replace(self, request: MessageReplace) -> int:
        name, wanted = request.session_id, request.only_if
        if name not in self.sessions:
            raise Integrity(f"session {name!r} does not exist")
        count = len(self.messages.get(name, []))
        if wanted and (count != wanted.message_count or (wanted.unmarked and name in self.marked)):
            return NOT_REPLACED
        if request.mark_transcript:
            self.marked.add(name)
        self.messages[name] = []
        return len(set(self._append(name, request.messages)))

    def _page(self, request: MessagePage) -> Page:
        found = [
            {**dict.fromkeys(MESSAGE_COLUMN_NAMES), **msgspec.structs.asdict(message), "id": place}
            for place, message in self.messages.get(request.session_id, [])
            if place > request.after_id
        ]
        found = found[request.offset :]
        return Page(found[: request.limit], len(found) > request.limit)

    def texts(self, session_id: str) -> list[str | None]:
        """What was said in a session, as the database has it."""
        return [message.content for _, message in self.messages.get(session_id, [])]


class Running:
    """A plan under way: each :meth:`advance` carries out one step and hands over its result."""

    def __init__(self, plan: Plan[Any]) -> None:
        self._plan = plan
        self._step: Step | None = None
        self.is_done = False
        self.result: Any = None

    def carry_out(self, answer: Callable[[Step], Any]) -> None:
        """One step: what was asked for happens, and the plan runs to its next step."""
        try:
            if self._step is None:
                self._step = next(self._plan)
                return
            try:
                result = answer(self._step)
            except Exception as error:  # noqa: BLE001 (the plan's to judge)
                self._step = self._plan.throw(error)
            else:
                self._step = self._plan.send(result)
        except StopIteration as stop:
            self.is_done, self.result = True, stop.value

    def abandon(self, answer: Callable[[Step], Any], *, after_the_step: bool) -> None:
        """The process is killed, before or just after what it asked for happened."""
        if after_the_step and self._step is not None:
            with suppress(SessiondError):
                answer(self._step)
        self._plan.close()


def carry_out(plan: Plan[T], table: Table) -> T:
    """A plan from its beginning to its end, with nobody in between."""
    running = Running(plan)
    while not running.is_done:
        running.carry_out(table.answer)
    result: T = running.result
    return result
