"""Whether the store holds the script, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.gateway.script import Room
from sessiond_client import SessionDB
from sessiond_client.gateway import build_session_key


def differences(folder: Path, rooms: list[Room]) -> Iterator[str]:
    """Everything that is not as the script says; the daemon runs still."""
    mirrored = json.loads((folder / "sessions" / "sessions.json").read_bytes())
    with SessionDB(folder / "state.db", socket=folder / "sock", autostart=False) as db:
        for room in rooms:
            key = build_session_key(room.source)
            yield from _of_room(db, folder, key, room)
            if mirrored[key]["session_id"] != room.sessions[-1]:
                yield f"{key}: the mirror leads to {mirrored[key]['session_id']}"
        stored, expected = db.session_count(), sum(len(room.sessions) for room in rooms)
        if stored != expected:
            yield f"{stored} sessions are stored, and {expected} answered"


def _of_room(db: SessionDB, folder: Path, key: str, room: Room) -> Iterator[str]:
    if len(room.sessions) != len(room.transcripts):
        yield f"{key}: {len(room.sessions)} sessions, the policy makes {len(room.transcripts)}"
    for session_id, expected in zip(room.sessions, room.transcripts, strict=False):
        if (found := _texts(db.get_messages_as_conversation(session_id))) != expected:
            yield f"{key}: {session_id} holds {found}, not {expected}"
        if (found := _texts(_in_file(folder, session_id))) != expected:
            yield f"{key}: the file of {session_id} holds {found}, not {expected}"
        session = db.get_session(session_id)
        reason = None if session_id == room.sessions[-1] else "session_reset"
        if session is None or session["end_reason"] != reason:
            yield f"{key}: {session_id} ended as {session and session['end_reason']}"
        elif session["source"] != room.source.platform:
            yield f"{key}: {session_id} is from {session['source']}"


def _texts(messages: list[dict[str, Any]]) -> list[str]:
    """What was said, if questions and answers alternate as they should."""
    roles = ["user", "assistant"] * len(messages)
    return [
        message["content"] if message["role"] == role else f"{message['role']}: out of turn"
        for message, role in zip(messages, roles, strict=False)
    ]


def _in_file(folder: Path, session_id: str) -> list[dict[str, Any]]:
    """The transcript's lines. One that was written, and never confirmed, is there twice."""
    lines = (folder / "sessions" / f"{session_id}.jsonl").read_text("utf-8").splitlines()
    return list({message["message_key"]: message for message in map(json.loads, lines)}.values())
