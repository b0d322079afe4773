"""The order in which the feed tells what was committed while its thread was busy."""

from typing import Any

from sessiond import feed
from sessiond_protocol.requests.feed import Event


def row(message_id: int) -> dict[str, Any]:
    return {"id": message_id, "session_id": "s"}


def kinds(rows: list[dict[str, Any]], events: list[feed.Placed]) -> list[str]:
    return [
        str(event.message["id"]) if event.message else event.kind
        for event in feed._in_order(rows, events)
    ]


def test_events_stand_between_the_messages_of_their_time() -> None:
    created, titled, ended = map(Event, ("session_created", "session_titled", "session_ended"))
    events = [(4, created), (5, titled), (7, ended)]
    assert kinds([row(5), row(6), row(7), row(8)], events) == [
        "session_created", "5", "session_titled", "6", "7", "session_ended", "8",
    ]  # fmt: skip
    assert kinds([], events) == ["session_created", "session_titled", "session_ended"]
    assert kinds([row(9)], []) == ["9"]


def test_events_of_one_batch_keep_their_order() -> None:
    events = [(5, Event("session_ended")), (5, Event("session_reopened"))]
    assert kinds([row(5)], events) == ["5", "session_ended", "session_reopened"]
