"""Long work in the daemon, as programs ask for it: copies, checks, repairs, how it is followed."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import Conflict, DatabaseError, InvalidParams, SessionDB, ShuttingDown
from tests.support.daemon import Daemon, running
from tests.support.foreign import HOLD_LOCK, Foreign, run
from tests.support.raw import Raw

INTEGRITY = "c = connect(); print(*c.execute('PRAGMA integrity_check').fetchone()); c.close()"


@pytest.fixture
def copy_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for a copy, which is not started yet."""
    made = Daemon(tmp_path_factory.mktemp("copy"))
    yield made
    if made.process is not None:
        made.stop()


@contextmanager
def locked(path: Path) -> Iterator[Foreign]:
    """Another program holds the write lock: a vacuum waits, and runs for as long."""
    with Foreign(HOLD_LOCK, path) as other:
        other.wait_for_pause()
        yield other


def fill(db: SessionDB, session: str, megabytes: int) -> None:
    """Messages of random letters, a megabyte in each request."""
    db.ensure_session(session, "test")
    for number in range(megabytes):
        texts = [os.urandom(4096).hex() for _ in range(128)]
        db.append_messages(
            session, [{"role": "user", "content": f"m{number} {text}"} for text in texts]
        )


# --- backup ------------------------------------------------------------------------------------


def test_a_backup_is_a_database_like_any_other(
    db: SessionDB, daemon: Daemon, tmp_path: Path, copy_daemon: Daemon
) -> None:
    session = db.create_session(f"backup {tmp_path.name}", "test")
    word = f"needle{os.urandom(4).hex()}"
    db.append_message(session, "user", f"{word} in a copy 漢字")
    states: list[dict[str, Any]] = []
    result = db.backup(copy_daemon.database, progress=states.append)
    assert result["path"] == str(copy_daemon.database)
    assert result["bytes"] == copy_daemon.database.stat().st_size
    assert result["messages"] == db.message_count()
    assert result["findings"] == []
    assert states[-1]["state"] == "done"
    assert states[-1]["result"] == result
    assert copy_daemon.database.stat().st_mode == daemon.database.stat().st_mode
    assert os.listdir(copy_daemon.folder) == ["state.db"]
    assert run(INTEGRITY, copy_daemon.database) == "ok"
    copy_daemon.start()
    with SessionDB(**copy_daemon.arguments) as copy:
        assert copy.get_messages(session) == db.get_messages(session)
        assert [hit["session_id"] for hit in copy.search_messages(word)] == [session]
        assert copy.append_message(session, "user", "goes its own way") > 0
        assert copy.check()["sound"] is True
    copy_daemon.stop()
    copy_daemon.database.unlink()
    assert db.get_stats()["last_backup"] is not None


def test_a_backup_while_others_write_has_what_was_answered_before(
    own_daemon: Daemon, copy_daemon: Daemon
) -> None:
    with SessionDB(**own_daemon.arguments) as db:
        fill(db, "bulk", 24)
        names = ("a", "b", "c")
        for name in names:
            db.create_session(name, "test")
            db.append_message(name, "user", f"{name} 0")
        enough = threading.Event()
        answered = dict.fromkeys(names, 0)

        def write(name: str) -> None:
            with SessionDB(**own_daemon.arguments) as mine:
                while not enough.is_set():
                    mine.append_message(name, "user", f"{name} {answered[name] + 1}")
                    answered[name] += 1

        writers = [threading.Thread(target=write, args=(name,)) for name in names]
        for each in writers:
            each.start()
        try:
            at_start = dict(answered)
            result = db.backup(copy_daemon.database)
        finally:
            enough.set()
            for each in writers:
                each.join()
    assert result["restarts"] == 0
    copy_daemon.start()
    with SessionDB(**copy_daemon.arguments) as copy:
        for name, count in at_start.items():
            texts = [each["content"] for each in copy.get_messages(name)]
            assert texts == [f"{name} {number}" for number in range(len(texts))]
            assert count < len(texts) <= answered[name] + 1
        assert copy.check()["sound"] is True


def test_where_a_backup_may_not_go(daemon: Daemon, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    (tmp_path / "half-wal").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").symlink_to(daemon.folder)
    with SessionDB(**daemon.arguments) as db:
        for path, error, words in (
            (taken, Conflict, "exists, and a backup overwrites nothing"),
            (tmp_path, Conflict, "exists"),
            (tmp_path / "link", Conflict, "exists"),
            (tmp_path / "half", Conflict, "half-wal exists and would be taken for a part"),
            (daemon.database, InvalidParams, "is a file of the database itself"),
            (f"{daemon.database}-journal", InvalidParams, "is a file of the database itself"),
            (tmp_path / "folder/state.db-wal", InvalidParams, "is a file of the database itself"),
            # The next restore would remove it.
            (f"{daemon.database}.restoring", InvalidParams, "is a file of the database itself"),
            (tmp_path / "missing" / "copy", InvalidParams, "missing does not exist"),
            (tmp_path / ("x" * 250), DatabaseError, "cannot be written: .*too long"),
        ):
            with pytest.raises(error, match=words):
                db.backup(path)
        for bad in ("", "a\0b", b"bytes", "\udcff"):
            with pytest.raises(ValueError, match="path must be"):
                db.backup(bad)  # type: ignore[arg-type]
        with Raw(daemon.socket) as raw:
            job = raw.ask("database.backup", path="relative")
            state = raw.ask("job.status", job_id=job, wait=10.0)
            while state["state"] == "running":
                state = raw.ask("job.status", job_id=job, version=state["version"], wait=10.0)
            assert state["error"][0] == "invalid_params"
    assert taken.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["folder", "half-wal", "link", "taken"]


def test_a_relative_path_is_the_programs_own(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SessionDB(**daemon.arguments) as db:
        assert db.backup("copy.db")["path"] == str(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").is_file()


# --- check -------------------------------------------------------------------------------------

PLANT = """
c = connect()
c.execute("UPDATE sessions SET message_count = 77 WHERE id = 'planted'")
c.execute("INSERT INTO messages_fts (rowid, content) VALUES (1, 'neverwritten words')")
c.close()
"""


@pytest.mark.parametrize("now", [False, True])
def test_a_check_finds_what_is_wrong_and_repairs_it(own_daemon: Daemon, now: bool) -> None:
    with SessionDB(**own_daemon.arguments) as db:
        db.create_session("planted", "test")
        db.append_message("planted", "user", "first words")
        assert db.check(now=now)["sound"] is True
        run(PLANT, own_daemon.database)
        found = db.check(now=now)
        assert found["sound"] is False
        assert found["counts"] == {"counter": 1, "index": 1}
        assert {each["kind"] for each in found["findings"]} == {"counter", "index"}
        assert any("message_count is 77, there are 1" in e["detail"] for e in found["findings"])
        assert found["repaired"] == []
        assert db.check(now=now, repair=True)["repaired"] == ["counter", "index"]
        assert db.check(now=now)["sound"] is True
        session = db.get_session("planted")
        assert session is not None
        assert session["message_count"] == 1
        assert db.search_messages("neverwritten") == []
        assert len(db.search_messages("first")) == 1
        assert db.append_message("planted", "user", "more") == 2
        assert db.get_stats()["index"]["state"] == "healthy"
    assert not [name for name in os.listdir(own_daemon.folder) if "check" in name]


# --- vacuum, checkpoint, rebuild ----------------------------------------------------------------


def test_a_vacuum_gives_back_what_is_free(own_daemon: Daemon) -> None:
    with SessionDB(**own_daemon.arguments) as db:
        fill(db, "bulk", 8)
        db.create_session("kept", "test")
        message = db.append_message("kept", "user", "kept words")
        db.delete_session("bulk")
        inode = own_daemon.database.stat().st_ino
        before = db.get_stats()
        result = db.vacuum()
        assert result["bytes_after"] < result["bytes_before"] - (8 << 20)
        assert own_daemon.database.stat().st_size == result["bytes_after"]
        assert own_daemon.database.stat().st_ino == inode
        after = db.get_stats()
        for what in ("foreign_commits", "generation", "schema"):
            assert after[what] == before[what]
        assert after["index"]["state"] == "healthy"
        assert [hit["id"] for hit in db.search_messages("kept")] == [message]
        assert db.append_message("kept", "user", "afterwards") > message
        assert db.check()["sound"] is True
    assert "changed the schema" not in own_daemon.log
    own_daemon.stop()
    assert run(INTEGRITY, own_daemon.database) == "ok"


def test_a_checkpoint_empties_the_log_or_says_who_holds_it(own_daemon: Daemon) -> None:
    reader = "c = connect(); c.execute('BEGIN'); c.execute('SELECT 1 FROM sessions').fetchall()"
    log = Path(f"{own_daemon.database}-wal")
    with SessionDB(**own_daemon.arguments, reads="daemon") as db:
        db.create_session("s", "test")
        with Foreign(f"{reader}; pause(); c.close()", own_daemon.database) as other:
            other.wait_for_pause()
            db.append_message("s", "user", "after the reader's snapshot")
            held = db.checkpoint()
            assert held["busy"] is True
            assert any(str(other.pid) in each for each in held["held_by"])
            assert log.stat().st_size > 0
            other.finish()
        freed = db.checkpoint()
        assert (freed["busy"], freed["held_by"]) == (False, [])
        assert log.stat().st_size == 0


def test_the_index_is_made_anew(own_daemon: Daemon) -> None:
    with SessionDB(**own_daemon.arguments) as db:
        db.create_session("s", "test")
        texts = [{"role": "user", "content": f"word{n} 漢字{n}"} for n in range(2000)]
        db.append_messages("s", texts)
        rebuilds = db.get_stats()["index"]["rebuilds"]
        assert db.rebuild_index()["rebuilt"] == ["messages_fts", "sessiond_cjk_fts"]
        index = db.get_stats()["index"]
        assert (index["state"], index["rebuilds"]) == ("healthy", rebuilds + 1)
        assert [hit["id"] for hit in db.search_messages("word1234")] == [1235]
        assert db.check()["sound"] is True


# --- how jobs are followed ---------------------------------------------------------------------


def test_one_job_of_a_kind_and_a_vacuum_alone(own_daemon: Daemon) -> None:
    with Raw(own_daemon.socket) as raw, SessionDB(**own_daemon.arguments) as db:
        db.create_session("s", "test")
        with locked(own_daemon.database) as other:
            vacuum = raw.ask("database.vacuum", key=b"k")
            assert raw.ask("database.vacuum", key=b"k") == vacuum  # the same, asked again
            for start in (db.vacuum, db.check, db.checkpoint):
                with pytest.raises(Conflict, match=str(vacuum)) as caught:
                    start()
                assert caught.value.data == {"job_id": vacuum}
            (listed,) = raw.ask("job.list")
            assert (listed["id"], listed["kind"], listed["state"]) == (vacuum, "vacuum", "running")
            (shown,) = raw.ask("server.stats")["jobs"]
            assert {**shown, "step": "", "version": 0} == {**listed, "step": "", "version": 0}
            other.finish()
        assert ended(raw, vacuum)["state"] == "done"
        assert db.checkpoint()["busy"] is False


def ended(raw: Raw, job_id: int) -> dict[str, Any]:
    """How a job ended."""
    version = 0
    while True:
        state: dict[str, Any] = raw.ask("job.status", job_id=job_id, version=version, wait=10.0)
        if state["state"] != "running":
            return state
        version = state["version"]


def test_a_question_about_a_job_waits_for_a_change(own_daemon: Daemon) -> None:
    with Raw(own_daemon.socket) as raw, Raw(own_daemon.socket) as waiting:
        with locked(own_daemon.database) as other:
            vacuum = raw.ask("database.vacuum")
            state = raw.ask("job.status", job_id=vacuum)
            while "vacuuming" not in state["step"]:
                state = raw.ask("job.status", job_id=vacuum, version=state["version"], wait=10.0)
            version = state["version"]
            # Up to the time it was given, and then the same again.
            again = raw.ask("job.status", job_id=vacuum, version=version, wait=0.05)
            assert again == state
            # Parked, while other questions on the same connection are answered.
            waiting.socket.sendall(
                waiting.frame("job.status", job_id=vacuum, version=version, wait=10.0)
                + waiting.frame("server.ping")
            )
            answer = waiting.answer()
            assert answer is not None
            assert answer.msgid == 2
            pending = [each["pending"] for each in raw.ask("server.stats")["clients"]]
            assert sorted(pending) == [0, 1]
            other.finish()
        answer = waiting.answer()
        assert answer is not None
        assert answer.msgid == 1
        assert ended(raw, vacuum)["state"] == "done"
        missing = raw.frame("job.status", job_id=1)
        raw.socket.sendall(missing)
        refused = raw.answer()
        assert refused is not None
        assert refused.error is not None
        assert refused.error[0] == "not_found"


def test_a_job_may_take_longer_than_a_call(own_daemon: Daemon) -> None:
    with SessionDB(**own_daemon.arguments, timeout=0.3) as db:
        db.create_session("s", "test")
        with locked(own_daemon.database) as other:
            looks: list[dict[str, Any]] = []

            def look(state: dict[str, Any]) -> None:
                looks.append(state)
                if len(looks) == 6:
                    other.go_on()

            assert db.vacuum(progress=look)["bytes_after"] > 0
            assert len(looks) >= 6


def test_a_lock_that_is_never_let_go_fails_the_job(tmp_path: Path) -> None:
    for daemon in running(tmp_path, "--lock-timeout", "200ms"):
        with SessionDB(**daemon.arguments) as db:
            db.create_session("s", "test")
            with locked(daemon.database), pytest.raises(DatabaseError, match="write lock") as e:
                db.vacuum()
            assert "job_id" in e.value.data
            assert db.vacuum()["bytes_after"] > 0


def test_a_stop_ends_jobs_and_says_so(own_daemon: Daemon) -> None:
    ends: list[BaseException] = []

    def vacuum() -> None:
        try:
            db.vacuum()
        except ShuttingDown as error:
            ends.append(error)

    with SessionDB(**own_daemon.arguments) as db:
        db.create_session("s", "test")
        with locked(own_daemon.database), Raw(own_daemon.socket) as raw:
            caller = threading.Thread(target=vacuum)
            caller.start()
            waits = 0  # looks at which the job was held up by the lock, and its caller waited
            while waits < 3:
                stats = raw.ask("server.stats")
                held_up = any(each["step"].startswith("vacuuming") for each in stats["jobs"])
                asked = any(each["pending"] for each in stats["clients"])
                waits = waits + 1 if held_up and asked else 0
                time.sleep(0.02)
            own_daemon.stop()
            caller.join()
    assert [str(each) for each in ends] == ["the daemon is stopping"]
