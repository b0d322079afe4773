"""One file, two programs: the daemon and the ``SessionDB`` of the published hermes-agent.

Its schema is newer than the daemon's, so the daemon keeps the file's own triggers and adds only
tables of its own beside them. Each must read, search and survive what the other wrote.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond_client import SessionDB
from tests.support.daemon import Daemon
from tests.support.hermes import Hermes, needs_hermes

pytestmark = needs_hermes

S = "20251121_062511_9c4e17d2"
PARTS = [{"type": "text", "text": "look here"}, {"type": "image_url", "image_url": {"url": "x"}}]
CALLS = [{"id": "c1", "function": {"name": "look", "arguments": '{"for": "tea"}'}}]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Not started yet; its file is hermes-agent's, with one session of everything."""
    made = Daemon(tmp_path)
    with Hermes(made.database) as hermes:
        fill(hermes)
    yield made
    if made.process is not None:
        made.stop()


def fill(hermes: Hermes) -> None:
    """A session with text, structure, a tool's call and result, counts, a title."""
    hermes.call("create_session", S, "telegram", model="m1", user_id="anna")
    hermes.call("append_message", S, "user", "Where is the tea kettle?")
    hermes.call("append_message", S, "user", "東京の天気はどうですか")
    hermes.call("append_message", S, "user", PARTS)
    hermes.call("append_message", S, "assistant", None, tool_calls=CALLS, reasoning="thinking")
    hermes.call("append_message", S, "tool", "in the kitchen", tool_name="look", tool_call_id="c1")
    hermes.call("update_token_counts", S, 100, 20, estimated_cost_usd=0.25)
    hermes.call("set_session_title", S, "Tea at home")


def seen(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What both programs must say of messages alike."""
    names = ("id", "session_id", "role", "content", "tool_name", "tool_call_id", "timestamp",
             "finish_reason", "reasoning", "token_count")  # fmt: skip
    return [(*(each[name] for name in names), each["tool_calls"] or None) for each in messages]


def found(hits: list[dict[str, Any]]) -> set[int]:
    return {hit["id"] for hit in hits}


def assert_sound(hermes: Hermes) -> None:
    """The file is whole, and each index that hermes-agent searches has exactly its messages."""
    assert hermes.ask("PRAGMA integrity_check") == [["ok"]]
    assert hermes.ask("PRAGMA foreign_key_check") == []
    for index in ("messages_fts", "messages_fts_trigram"):
        hermes.ask(f"INSERT INTO {index} ({index}) VALUES ('integrity-check')")
        counted = hermes.ask(f"SELECT count(*) FROM {index}_docsize")
        assert counted == hermes.ask("SELECT count(*) FROM messages")
    wrong = (
        "SELECT id FROM sessions WHERE message_count IS NOT"
        " (SELECT count(*) FROM messages WHERE session_id = sessions.id)"
    )
    assert hermes.ask(wrong) == []


def test_the_daemon_opens_its_file_and_reads_everything(daemon: Daemon) -> None:
    with Hermes(daemon.database) as hermes:
        theirs = hermes.call("get_messages", S)
        version = hermes.ask("SELECT version FROM schema_version")
    daemon.start()
    with SessionDB(**daemon.arguments) as db:
        assert seen(db.get_messages(S)) == seen(theirs)
        assert [each["content"] for each in db.get_messages(S)][2] == PARTS
        session = db.get_session(S)
        assert session is not None
        assert (session["title"], session["model"], session["user_id"], session["source"]) == (
            "Tea at home", "m1", "anna", "telegram",
        )  # fmt: skip
        assert (session["message_count"], session["tool_call_count"]) == (5, 1)
        assert (session["input_tokens"], session["output_tokens"]) == (100, 20)
        assert session["estimated_cost_usd"] == 0.25
        assert db.resolve_session_by_title("Tea at home") == S
        assert found(db.search_messages("kettle")) == {theirs[0]["id"]}
        assert found(db.search_messages("天気")) == {theirs[1]["id"]}
        stats = db.get_stats()
        assert (stats["schema"]["mode"], stats["writable"]) == ("foreign", True)
        assert [[stats["schema"]["version"]]] == version


def test_it_opens_afterwards_what_the_daemon_wrote(daemon: Daemon) -> None:
    daemon.start()
    with SessionDB(**daemon.arguments) as db:
        word = db.append_message(S, "user", "Marmalade, please")
        cjk = db.append_message(S, "assistant", "京都のマーマレード", token_count=9)
        structured = db.append_message(S, "user", PARTS)
        db.append_message(S, "assistant", None, tool_calls=CALLS)
        db.update_token_counts(S, 11, 2)
        db.set_session_title(S, "Marmalade")
        db.create_session("child", "cli", parent_session_id=S)
        db.append_messages("child", [{"role": "user", "content": "one"}] * 3)
        db.end_session("child", "done")
        ours = db.get_messages(S)
    daemon.stop()
    with Hermes(daemon.database) as hermes:
        theirs = hermes.call("get_messages", S)
        # Our structured content is text to others; its structure lies in a table of ours.
        [text] = [each["content"] for each in theirs if each["id"] == structured]
        assert text == "look here"
        plain = [each for each in ours if each["id"] != structured]
        assert seen([each for each in theirs if each["id"] != structured]) == seen(plain)
        session = hermes.call("get_session", S)
        assert (session["title"], session["message_count"], session["tool_call_count"]) == (
            "Marmalade", 9, 2,
        )  # fmt: skip
        assert (session["input_tokens"], session["output_tokens"]) == (111, 22)
        child = hermes.call("get_session", "child")
        assert (child["message_count"], child["end_reason"]) == (3, "done")
        assert hermes.call("resolve_session_by_title", "Marmalade") == S
        assert found(hermes.call("search_messages", "marmalade")) == {word}
        assert found(hermes.call("search_messages", "京都の")) == {cjk}
        assert_sound(hermes)


def test_both_write_while_both_run(daemon: Daemon) -> None:
    daemon.start()
    with SessionDB(**daemon.arguments) as db, Hermes(daemon.database) as hermes:
        ours = db.append_message(S, "user", "the daemon brings marmalade 京都")
        assert hermes.call("get_messages", S)[-1]["content"] == "the daemon brings marmalade 京都"
        assert found(hermes.call("search_messages", "marmalade")) == {ours}

        theirs = hermes.call("append_message", S, "user", "hermes brings tangerines 大阪城")
        assert db.get_messages(S)[-1]["id"] == theirs
        assert found(db.search_messages("tangerine*")) == {theirs}
        assert found(db.search_messages("大阪城")) == {theirs}
        assert found(hermes.call("search_messages", "brings")) == {ours, theirs}
        assert found(db.search_messages("brings")) == {ours, theirs}

        hermes.call("set_session_title", S, "Named by hermes")
        assert db.get_session_title(S) == "Named by hermes"
        db.set_session_title(S, "Named by the daemon")
        assert hermes.call("get_session_title", S) == "Named by the daemon"
        hermes.call("update_token_counts", S, 1, 1)
        db.update_token_counts(S, 10, 10)
        session = hermes.call("get_session", S)
        assert (session["input_tokens"], session["output_tokens"]) == (111, 31)

        hermes.call("create_session", "gone", "cli")
        hermes.call("append_message", "gone", "user", "quince")
        db.delete_session("gone")
        assert hermes.call("get_session", "gone") is None
        assert hermes.call("search_messages", "quince") == []
        assert_sound(hermes)


def test_messages_that_it_rewinds_are_not_replayed(daemon: Daemon) -> None:
    daemon.start()
    with SessionDB(**daemon.arguments) as db, Hermes(daemon.database) as hermes:
        kept = len(db.get_messages_as_conversation(S))
        asked = db.append_message(S, "user", "forget this")
        db.append_message(S, "assistant", "forgotten")
        hermes.call("rewind_to_message", S, asked)
        assert len(db.get_messages_as_conversation(S)) == kept
        assert found(db.search_messages("forget*")) == set()
        assert hermes.call("search_messages", "forgotten") == []


def test_the_feed_tells_of_what_it_writes(daemon: Daemon) -> None:
    daemon.start()
    with (
        SessionDB(**daemon.arguments) as db,
        Hermes(daemon.database) as hermes,
        db.watch(S, after=0) as feed,
    ):
        told = (each.message for each in feed if each.message is not None)
        assert [next(told)["id"] for _ in range(5)] == [1, 2, 3, 4, 5]
        theirs = hermes.call("append_message", S, "user", "live")
        message = next(told)
        assert (message["id"], message["content"]) == (theirs, "live")


def test_both_write_at_once_and_nothing_is_lost(daemon: Daemon) -> None:
    count = 40
    daemon.start()
    with SessionDB(**daemon.arguments) as db, Hermes(daemon.database) as hermes:

        def write() -> None:
            for number in range(count):
                db.append_message(S, "user", f"daemon {number}")

        writing = threading.Thread(target=write)
        writing.start()
        theirs = [
            hermes.call("append_message", S, "user", f"hermes {number}") for number in range(count)
        ]
        writing.join()
        stored = db.get_messages(S)
        assert seen(stored) == seen(hermes.call("get_messages", S))
        texts = [each["content"] for each in stored[5:]]
        for name in ("daemon", "hermes"):
            assert [text for text in texts if text.startswith(name)] == [
                f"{name} {number}" for number in range(count)
            ]
        assert [each["id"] for each in stored if each["id"] in set(theirs)] == theirs
        session = db.get_session(S)
        assert session is not None
        assert session["message_count"] == 5 + 2 * count
        assert len(db.search_messages("daemon OR hermes", limit=200)) == 2 * count
        assert len(hermes.call("search_messages", "daemon OR hermes", limit=200)) == 2 * count
        assert_sound(hermes)
