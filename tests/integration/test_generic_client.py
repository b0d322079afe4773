"""A MessagePack-RPC client that is not ours talks to the daemon; no code of ours is on its side."""

import pickle
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.daemon import Daemon

Call = tuple[str, str | bytes, list[Any]]
COUNT: Call = ("request", "session.count", [{}])


def talk(daemon: Daemon, *calls: Call) -> list[tuple[str, Any]]:
    """What a session of pynvim's gets for these calls."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.generic_client", str(daemon.socket)],
        input=pickle.dumps(calls),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    outcomes: list[tuple[str, Any]] = pickle.loads(done.stdout)
    return outcomes


def test_writes_reads_and_searches(daemon: Daemon) -> None:
    session = {"session_id": "generic", "source": "nvim", "started_at": 1.0}
    message = {"role": "user", "timestamp": 1.5, "content": "a lighthouse"}
    created, appended, page, found = talk(
        daemon,
        ("request", "session.create", [session]),
        ("request", "message.append", [{"session_id": "generic", "message": message}]),
        ("request", "message.page", [{"session_id": "generic"}]),
        ("request", "search.messages", [{"query": "lighthouse"}]),
    )
    assert created == ("result", "generic")
    assert appended[0] == "result"
    assert [(row["id"], row["content"]) for row in page[1]["rows"]] == [
        (appended[1], "a lighthouse")
    ]
    assert [hit["id"] for hit in found[1]["rows"]] == [appended[1]]


def test_method_names_are_text_or_bytes_and_unknown_notifications_are_ignored(
    daemon: Daemon,
) -> None:
    outcomes = talk(
        daemon,
        ("notify", "nobody.knows", [{"this": 1}]),
        ("notify", b"\xff\xfe", [1, 2, 3]),
        ("request", b"session.count", [{}]),
        COUNT,
    )
    assert [kind for kind, _ in outcomes] == ["result", "result"]


@pytest.mark.parametrize(
    ("method", "argument", "text"),
    [
        ("no.such_method", {}, "unknown method 'no.such_method'"),
        ("session.get", {"session_id": 5}, r"Expected `str`, got `int` - at `\$.session_id`"),
        ("session.get", {}, "missing required field `session_id`"),
        ("session.get", {"session_id": "x", "more": 1}, "unknown field `more`"),
        ("session.get", 7, "Expected `object`, got `int`"),
        ("session.newest", {"limit": -1}, r"Expected `int` >= 0 - at `\$.limit`"),
        ("message.append", {"session_id": "nobody", "message": {"role": "user", "timestamp": 1.0}},
         "session 'nobody' does not exist"),
        ("server.hello", {"protocol": 99}, "protocol 99 is not spoken here"),
        ("server.hello", {"protocol": 1, "client_id": b"short"}, "client_id of 5 bytes"),
        ("server.hello", {"protocol": 1, "database": "/another/state.db"}, "this daemon serves"),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_the_connection_lives_on(
    daemon: Daemon, method: str, argument: Any, text: str
) -> None:
    refused, after = talk(daemon, ("request", method, [argument]), COUNT)
    assert refused[0] == "error"
    assert re.search(text, refused[1])
    assert after[0] == "result"


def test_a_third_element_of_params_is_refused(daemon: Daemon) -> None:
    refused, after = talk(daemon, ("request", "session.count", [{}, {}, {}]), COUNT)
    assert "params has 3 elements" in refused[1]
    assert after[0] == "result"


def test_without_hello_a_number_is_ignored(daemon: Daemon) -> None:
    session = {"session_id": "unnumbered", "source": "nvim", "started_at": 1.0}
    call: Call = ("request", "session.create", [session, {"seq": 7, "floor": 1}])
    assert talk(daemon, call, call) == [("result", "unnumbered")] * 2
