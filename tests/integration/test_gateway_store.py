"""Both gateway stores on a real daemon: sessions by key, transcripts, files, other processes."""

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import Closed, Integrity, NotFound, SessionDB
from sessiond_client.gateway import (
    Platform,
    SessionEntry,
    SessionSource,
    SessionStore,
    legacy,
    mirror,
)
from sessiond_client.gateway.entry import local_datetime
from sessiond_client.gateway.legacy import COPY_NAME, MIRROR_NAME, mirror_lock
from tests.support.clients import new_id
from tests.support.daemon import Daemon
from tests.support.gateways import HOUR, KINDS, processes, store
from tests.support.migrating import fork

NOW = 1_770_000_000.0


@dataclass
class Scene:
    """A gateway on a daemon, with a clock to set and a folder of its own."""

    kind: str
    daemon: Daemon
    folder: Path
    now: float = NOW

    @contextmanager
    def gateway(self, **named: Any) -> Iterator[SessionStore]:
        with store(self.kind, self.daemon, self.folder, lambda: self.now, **named) as made:
            yield made

    @property
    def mirrored(self) -> Any:
        """What ``sessions.json`` holds."""
        return json.loads((self.folder / MIRROR_NAME).read_bytes())


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Scene:
    return Scene(request.param, daemon, tmp_path / "sessions")


@pytest.fixture(params=KINDS)
def own_scene(request: pytest.FixtureRequest, own_daemon: Daemon, tmp_path: Path) -> Scene:
    return Scene(request.param, own_daemon, tmp_path / "sessions")


@pytest.fixture
def observer(daemon: Daemon) -> Iterator[SessionDB]:
    """Another program that looks at the same database."""
    with SessionDB(**daemon.arguments) as db:
        yield db


def chat(**changes: Any) -> SessionSource:
    """A chat that no other test knows."""
    named: dict[str, Any] = {"chat_name": "Anna", "user_id": "u7", **changes}
    return SessionSource(Platform.TELEGRAM, new_id("chat"), **named)


def row(db: SessionDB, session_id: str) -> dict[str, Any]:
    found = db.get_session(session_id)
    assert found is not None
    return found


# --- sessions ----------------------------------------------------------------------------------


def test_a_conversation_from_its_first_message_over_a_reset(
    scene: Scene, observer: SessionDB
) -> None:
    told: list[str] = []
    source = chat()
    with scene.gateway(on_auto_reset=lambda entry: told.append(entry.session_id)) as gateway:
        first = gateway.get_or_create_session(source)
        found = row(observer, first.session_id)
        assert (found["source"], found["user_id"], found["started_at"]) == ("telegram", "u7", NOW)
        assert (first.display_name, first.origin) == ("Anna", source)
        scene.now += 60
        assert gateway.get_or_create_session(source).session_id == first.session_id
        gateway.update_session(
            first.session_key, 10, 5, last_prompt_tokens=7, model="m", provider="p", base_url="b"
        )
        gateway.update_session(first.session_key, estimated_cost_usd=0.5, cost_status="exact")
        found = row(observer, first.session_id)
        assert (found["input_tokens"], found["output_tokens"], found["model"]) == (10, 5, "m")
        assert (found["billing_provider"], found["billing_base_url"]) == ("p", "b")
        assert (found["estimated_cost_usd"], found["cost_status"]) == (0.5, "exact")
        entry = gateway.get_or_create_session(source)
        assert (entry.total_tokens, entry.last_prompt_tokens) == (15, 7)
        assert gateway.is_session_expired(entry) is None
        scene.now += HOUR + 1
        assert gateway.is_session_expired(entry) == "idle"
        assert gateway._is_session_expired(entry) == "idle"
        new = gateway.get_or_create_session(source)
        assert (new.was_auto_reset, new.auto_reset_reason) == (True, "idle")
        assert new.reset_had_activity
        assert told == [first.session_id]
        assert row(observer, first.session_id)["end_reason"] == "session_reset"
        assert row(observer, first.session_id)["ended_at"] == scene.now
    with scene.gateway() as gateway:
        again = gateway.get_or_create_session(source)
        assert (again.session_id, again.was_auto_reset) == (new.session_id, False)


def test_a_session_that_was_deleted_gets_its_row_back(scene: Scene, observer: SessionDB) -> None:
    with scene.gateway() as gateway:
        entry = gateway.get_or_create_session(source := chat())
        observer.delete_session(entry.session_id)
        scene.now += 1
        assert gateway.get_or_create_session(source).session_id == entry.session_id
        assert row(observer, entry.session_id)["started_at"] == NOW


def test_reset_and_switch(scene: Scene, observer: SessionDB) -> None:
    target = new_id()
    observer.create_session(target, "telegram")
    observer.update_token_counts(target, input_tokens=4)
    observer.end_session(target, "done")
    with scene.gateway() as gateway:
        first = gateway.get_or_create_session(chat())
        key = first.session_key
        second = gateway.reset_session(key)
        assert second is not None
        assert second.session_id != first.session_id
        third = gateway.switch_session(key, target)
        assert third is not None
        assert (third.session_id, third.input_tokens, third.origin) == (target, 4, first.origin)
        assert row(observer, target)["ended_at"] is None
        reasons = [row(observer, each.session_id)["end_reason"] for each in (first, second)]
        assert reasons == ["session_reset", "session_switch"]
        assert gateway.switch_session(key, target) == third
        with pytest.raises(NotFound, match="session 'nowhere' does not exist"):
            gateway.switch_session(key, "nowhere")
        assert row(observer, target)["ended_at"] is None
        unknown = new_id("key")
        assert gateway.reset_session(unknown) is None
        assert gateway.switch_session(unknown, target) is None
        gateway.update_session(unknown, 1)


def test_entries_are_listed_newest_first(scene: Scene) -> None:
    with scene.gateway() as gateway:
        made = []
        for minutes in (2, 0, 1):
            scene.now = NOW + 60 * minutes
            made.append(gateway.get_or_create_session(chat()).session_key)
        scene.now = NOW + 180
        ours = [each.session_key for each in gateway.list_sessions() if each.session_key in made]
        assert ours == [made[0], made[2], made[1]]
        recent = [each.session_key for each in gateway.list_sessions(active_minutes=1.5)]
        assert [key for key in recent if key in made] == [made[0]]


def test_whether_there_was_another_session(own_scene: Scene) -> None:
    with own_scene.gateway() as gateway:
        assert not gateway.has_any_sessions()
        entry = gateway.get_or_create_session(chat())
        assert not gateway.has_any_sessions()
        gateway.reset_session(entry.session_key)
        assert gateway.has_any_sessions()


def test_processes_that_run_keep_a_session(scene: Scene) -> None:
    with scene.gateway(has_active_processes_fn=lambda key: True) as gateway:
        entry = gateway.get_or_create_session(source := chat())
        scene.now += 100 * HOUR
        assert gateway.get_or_create_session(source).session_id == entry.session_id


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_callbacks_may_be_coroutine_functions(kind: str, daemon: Daemon, tmp_path: Path) -> None:
    scene = Scene(kind, daemon, tmp_path)
    told: list[str] = []
    busy = {"is": True}

    async def on_auto_reset(entry: SessionEntry) -> None:
        told.append(entry.session_id)

    async def has_active_processes(key: str) -> bool:
        return busy["is"]

    with scene.gateway(
        on_auto_reset=on_auto_reset, has_active_processes_fn=has_active_processes
    ) as gateway:
        entry = gateway.get_or_create_session(source := chat())
        scene.now += 2 * HOUR
        assert gateway.get_or_create_session(source).session_id == entry.session_id
        scene.now += 2 * HOUR
        busy["is"] = False
        assert gateway.get_or_create_session(source).was_auto_reset
        assert told == [entry.session_id]


def test_the_blocking_store_refuses_callbacks_that_are_not(daemon: Daemon, tmp_path: Path) -> None:
    async def has_active_processes(key: str) -> bool:
        return False

    scene = Scene("sync", daemon, tmp_path)
    with scene.gateway(has_active_processes_fn=has_active_processes) as gateway:
        gateway.get_or_create_session(source := chat())
        scene.now += 2 * HOUR
        with pytest.raises(TypeError, match="use AsyncSessionStore"):
            gateway.get_or_create_session(source)


def test_a_closed_store_says_so(scene: Scene) -> None:
    with scene.gateway() as gateway:
        gateway.get_or_create_session(chat())
        gateway.close()
        with pytest.raises(Closed, match="SessionStore is closed"):
            gateway.list_sessions()
        gateway.close()


# --- transcripts -------------------------------------------------------------------------------


def test_what_is_said_lies_in_the_database_and_in_a_file(scene: Scene, observer: SessionDB) -> None:
    with scene.gateway() as gateway:
        name = gateway.get_or_create_session(chat()).session_id
        said = [
            {"role": "user", "content": "hello", "timestamp": "2026-05-04T12:30:00"},
            {"role": "assistant", "content": "hi", "reasoning": "r", "model": "m"},
        ]
        for message in said:
            gateway.append_to_transcript(name, message)
        observer.append_message(name, "user", "by the agent")
        gateway.append_to_transcript(name, {"role": "user", "content": "by the agent"}, True)
        assert gateway.load_transcript(name) == [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi", "reasoning": "r"},
            {"role": "user", "content": "by the agent"},
        ]
        path = gateway.get_transcript_path(name)
        assert path == scene.folder / f"{name}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[:2] == said
        gateway.rewrite_transcript(name, said[:1])
        assert len(gateway.load_transcript(name)) == 1
        assert [json.loads(line) for line in path.read_text().splitlines()] == said[:1]
        with pytest.raises(ValueError, match="cannot name a file"):
            gateway.get_transcript_path("../x")
        with pytest.raises(Integrity):
            gateway.append_to_transcript(new_id("unknown"), said[0])


def test_a_transcript_older_than_the_database_is_imported(
    scene: Scene, observer: SessionDB
) -> None:
    name = new_id()
    scene.folder.mkdir()
    path = scene.folder / f"{name}.jsonl"
    lines = [json.dumps({"role": "user", "content": str(number)}) for number in range(3)]
    path.write_text("\n".join([*lines[:2], "torn", lines[2]]))
    with scene.gateway() as gateway:
        assert [each["content"] for each in gateway.load_transcript(name)] == ["0", "1", "2"]
        assert observer.message_count(name) == 3
        observer.clear_messages(name)
        assert gateway.load_transcript(name) == []


def test_messages_survive_a_daemon_that_is_gone_for_a_while(
    own_scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = own_scene.daemon
    with own_scene.gateway(timeout=1.0) as gateway:
        name = gateway.get_or_create_session(chat()).session_id
        gateway.append_to_transcript(name, {"role": "user", "content": "1"})
        daemon.kill()
        gateway.append_to_transcript(name, {"role": "user", "content": "2"})
        warned = [each for each in caplog.records if "in its file alone" in each.getMessage()]
        assert [each.levelname for each in warned] == ["WARNING"]
        daemon.start()
        gateway.append_to_transcript(name, {"role": "user", "content": "3"})
        assert [each["content"] for each in gateway.load_transcript(name)] == ["1", "2", "3"]
        lines = gateway.get_transcript_path(name).read_text().splitlines()
        assert [json.loads(line)["content"] for line in lines] == ["1", "2", "3"]


# --- files that older tools read ---------------------------------------------------------------


def test_the_legacy_map_is_kept_imported_and_mirrored(own_scene: Scene) -> None:
    scene = own_scene
    moment = local_datetime(NOW)
    source = chat()
    key = f"agent:main:telegram:dm:{source.chat_id}"
    old = SessionEntry(key, "old session", moment, moment, source, "Anna", Platform.TELEGRAM)
    scene.folder.mkdir()
    found = {key: old.to_dict(), "broken": {"session_id": 5}}
    (scene.folder / MIRROR_NAME).write_text(json.dumps(found))
    with scene.gateway() as gateway:
        assert gateway.get_or_create_session(source).session_id == "old session"
        other = gateway.get_or_create_session(chat())
    assert json.loads((scene.folder / COPY_NAME).read_text()) == found
    assert scene.mirrored.keys() == {key, "broken", other.session_key}
    assert scene.mirrored["broken"] == {"session_id": 5}
    with SessionDB(**scene.daemon.arguments) as db:
        assert row(db, "old session")["source"] == "telegram"
    with scene.gateway() as gateway:
        gateway.reset_session(key)
    with scene.gateway() as gateway:
        assert gateway.get_or_create_session(source).session_id != "old session"


def mirror_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "sessions.json"]


def test_the_mirror_is_written_without_being_waited_for(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene("sync", daemon, tmp_path)
    monkeypatch.setattr(mirror, "PAUSE", 0.05)
    with scene.gateway() as gateway:
        with mirror_lock(scene.folder):
            key = gateway.get_or_create_session(chat()).session_key
            assert mirror_threads()
            assert not (scene.folder / MIRROR_NAME).exists()
        for thread in mirror_threads():
            thread.join(10)
        assert key in scene.mirrored


def test_many_changes_are_few_writings(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def counting(write: Callable[..., None]) -> Callable[..., None]:
        def counted(folder: Path, entries: dict[str, Any], unreadable: Any) -> None:
            written.append(len(entries))
            write(folder, entries, unreadable)

        return counted

    monkeypatch.setattr(mirror, "write_mirror", counting(legacy.write_mirror))
    monkeypatch.setattr(mirror, "PAUSE", 3600.0)
    scene = Scene("sync", daemon, tmp_path)
    with scene.gateway() as gateway:
        for _ in range(20):
            key = gateway.get_or_create_session(chat()).session_key
    assert len(written) <= 2
    assert key in scene.mirrored


def test_a_forked_child_goes_on_with_the_store(daemon: Daemon, tmp_path: Path) -> None:
    scene = Scene("sync", daemon, tmp_path)
    with scene.gateway() as gateway:
        entry = gateway.get_or_create_session(chat())
        child = fork()
        if child == 0:
            status = 1
            try:
                gateway.reset_session(entry.session_key)
                gateway.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        (found,) = [
            each for each in gateway.list_sessions() if each.session_key == entry.session_key
        ]
        assert found.session_id != entry.session_id
        assert scene.mirrored[entry.session_key]["session_id"] == found.session_id


# --- several processes -------------------------------------------------------------------------


def test_gateways_that_ask_at_once_get_one_session_and_one_of_them_the_reset(
    daemon: Daemon, tmp_path: Path
) -> None:
    chats = [new_id("chat") for _ in range(3)]
    with processes(*KINDS, daemon=daemon, folder=tmp_path) as gateways:
        before: dict[str, str] = {}
        for turn in range(15):
            for gateway in gateways:
                gateway.tell("ask", now=NOW + turn * 2 * HOUR, chats=chats)
            answers = [gateway.answer() for gateway in gateways]
            for found in zip(*answers, strict=True):
                name = found[0][0]
                assert len({session for _, session, _ in found}) == 1
                assert [flagged for _, _, flagged in found].count(True) == (1 if turn else 0)
                assert before.get(name) != found[0][1]
                before[name] = found[0][1]
        for gateway in gateways:
            gateway.stop()
    mirrored = json.loads((tmp_path / MIRROR_NAME).read_bytes())
    for name, session in before.items():
        assert mirrored[f"agent:main:telegram:dm:{name}"]["session_id"] == session


def test_a_gateway_that_is_killed_leaves_one_session_per_key(
    own_daemon: Daemon, tmp_path: Path
) -> None:
    choose = random.Random(7)
    chats = ["1", "2", "3"]
    folder = tmp_path / "sessions"
    for turn in range(4):
        kinds = choose.sample(KINDS, 2)
        with processes(*kinds, daemon=own_daemon, folder=folder) as gateways:
            for number, gateway in enumerate(gateways):
                gateway.tell("hurry", seed=turn * 10 + number, chats=chats)
            for _ in range(choose.randrange(5, 30)):
                gateways[0].answer()
        _check_sessions(own_daemon, folder)


def _check_sessions(daemon: Daemon, folder: Path) -> None:
    with (
        SessionDB(**daemon.arguments) as db,
        store("sync", daemon, folder, lambda: NOW) as gateway,
    ):
        current = {entry.session_id: entry for entry in gateway.list_sessions()}
        assert len(current) == 3
        for each in db.search_sessions(limit=100_000):
            entry = current.pop(each["id"], None)
            assert each["source"] == "telegram"
            assert (each["ended_at"] is None) == (entry is not None), each
            if entry is not None and entry.origin is not None:
                assert each["user_id"] == f"user {entry.origin.chat_id}"
        assert current == {}
