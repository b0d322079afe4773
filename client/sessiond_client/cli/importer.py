"""Storing sessions from files, many at once: the daemon commits them in groups."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from sessiond_client import SessionDB
from sessiond_client._errors import Conflict
from sessiond_client.cli import units
from sessiond_client.cli.connect import ask, submit
from sessiond_client.cli.incoming import Incoming, creation, requests_for
from sessiond_protocol.errors import DECIDED, SessiondError
from sessiond_protocol.requests.server import BatchApply

# A group is looked up, then sent at once: a read waits for the writes before it.
GROUP: Final = 256
GROUP_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class Report:
    """What came of an import; counts of sessions, and of messages stored."""

    imported: int = 0
    messages: int = 0
    present: int = 0
    failed: int = 0
    routes: int = 0

    def text(self) -> str:
        """In one line, for people."""
        parts = [
            f"{units.plural(self.imported, 'session')} with"
            f" {units.plural(self.messages, 'message')} imported"
        ]
        if self.routes:
            parts.append(f"{units.plural(self.routes, 'session key')} taken over")
        if self.present:
            parts.append(f"{units.count(self.present)} there already")
        if self.failed:
            parts.append(f"{units.count(self.failed)} failed")
        return ", ".join(parts)


class Importer:
    """Stores one session after another; ``close`` waits for the last ones.

    A session that is there already is left as it is, unless ``replace``. What cannot be stored
    is said through ``warn`` and counted; the others are stored all the same.
    """

    def __init__(self, db: SessionDB, warn: Callable[[str], None], *, replace: bool) -> None:
        self._db = db
        self._warn = warn
        self._replace = replace
        self._group: dict[str, tuple[Incoming, list[BatchApply]]] = {}
        self._group_bytes = 0
        self._sent: list[tuple[Incoming, Future[list[Any]]]] = []
        self._parents: list[tuple[str, str]] = []
        self.report = Report()

    def add(self, incoming: Incoming) -> None:
        """Store a session, soon."""
        if incoming.session_id in self._group:
            self._send_group()
        try:
            requests = requests_for(incoming, replace=self._replace)
        except (TypeError, ValueError) as error:
            self._fail(incoming, str(error))
            return
        self._group[incoming.session_id] = incoming, requests
        self._group_bytes += sum(
            len(bytes(item.arguments)) for request in requests for item in request.items
        )
        if len(self._group) >= GROUP or self._group_bytes >= GROUP_BYTES:
            self._send_group()

    def close(self) -> None:
        """Wait for what is on its way, then join sessions to their parents."""
        self._send_group()
        self._collect()
        parents, self._parents = self._parents, []
        for session_id, parent in parents:
            self._join(session_id, parent)

    def _send_group(self) -> None:
        """Send what was gathered, while the next group is read from the file."""
        self._collect()
        group, self._group, self._group_bytes = self._group, {}, 0
        wanted = [each for each in group.values() if not self._is_present(each[0])]
        for incoming, requests in wanted:
            if len(requests) == 1:
                self._sent.append((incoming, submit(self._db, requests[0])))
            else:
                self._store_long(incoming, requests)

    def _is_present(self, incoming: Incoming) -> bool:
        """Whether there is nothing to do for a session."""
        if self._replace:
            return False
        present = self._db.get_session(incoming.session_id)
        if present is None:
            return False
        self.report.present += 1
        stored = present["message_count"] or 0
        if stored < len(incoming.messages):
            self._warn(
                f"session {incoming.session_id} is there with {stored} messages, the file has"
                f" {len(incoming.messages)}; --replace takes those of the file"
            )
        return True

    def _collect(self) -> None:
        """Wait for the group that was sent."""
        sent, self._sent = self._sent, []
        for incoming, future in sent:
            try:
                future.result()
            except Conflict:
                self._store_untitled(incoming)
            except SessiondError as error:
                self._fail_or_raise(incoming, error)
            else:
                self._stored(incoming)

    def _store_long(self, incoming: Incoming, requests: list[BatchApply]) -> None:
        """One part after the other; the last one sets the title."""
        try:
            for request in requests:
                ask(self._db, request)
        except Conflict:
            self._store_untitled(incoming)
        except SessiondError as error:
            self._fail_or_raise(incoming, error)
        else:
            self._stored(incoming)

    def _store_untitled(self, incoming: Incoming) -> None:
        """Another session has the title: the next free number of its lineage is taken.

        Of the requests only the last one, which set the title, was not applied.
        """
        try:
            requests = requests_for(incoming, replace=self._replace, with_title=False)
            ask(self._db, requests[-1])
            if incoming.title:
                title = self._db.get_next_title_in_lineage(incoming.title)
                self._db.set_session_title(incoming.session_id, title)
                self._warn(
                    f"title {incoming.title!r} of session {incoming.session_id} is another"
                    f" session's, it is {title!r} now"
                )
        except SessiondError as error:
            self._fail_or_raise(incoming, error)
        else:
            self._stored(incoming)

    def _stored(self, incoming: Incoming) -> None:
        self.report.imported += 1
        self.report.messages += len(incoming.messages)
        if incoming.parent:
            self._parents.append((incoming.session_id, incoming.parent))

    def _join(self, session_id: str, parent: str) -> None:
        """Set the parent: creating an existing session fills what is unset."""
        found = self._db.get_session(session_id)
        if found is None:
            return
        if self._db.get_session(parent) is None:
            self._warn(f"session {session_id} continues {parent}, which is not there")
            return
        ask(self._db, creation(Incoming(session_id, found), parent=parent))

    def _fail_or_raise(self, incoming: Incoming, error: SessiondError) -> None:
        """Go on with the others only if it was this session's fault."""
        if error.code not in DECIDED and error.code != "too_large":
            raise error
        self._fail(incoming, error.message)

    def _fail(self, incoming: Incoming, why: str) -> None:
        self.report.failed += 1
        self._warn(f"session {incoming.session_id} is not imported: {why}")
