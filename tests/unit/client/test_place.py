"""Reaching a daemon's socket, and whom to trust there."""

import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond_client import SessionDB, Unauthorized, _starter
from sessiond_client._place import Place

NOBODY = 65_533

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux names the other side")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place where somebody listens."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield Place(str(tmp_path / "state.db"), str(path), autostart=False)


@pytest.fixture
def stranger(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same, where the kernel says that a stranger listens."""
    monkeypatch.setattr(struct, "unpack", lambda _form, _raw: (1, NOBODY, NOBODY))
    return place


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/opt/bot/gateway.py", "gateway.py"),
        ("/opt/bot/gateway/__main__.py", "gateway"),
        ("-c", "python -c"),
        ("", "python"),
    ],
)
def test_a_program_is_called_what_people_know_it_by(
    place: Place, path: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [path])
    assert place.program == shown


def test_somebody_listens(place: Place) -> None:
    connected, failure = place.connect(place.candidates()[0], 1.0)
    assert failure is None
    assert connected is not None
    connected.close()


def test_nobody_listens(place: Place, tmp_path: Path) -> None:
    assert place.connect(str(tmp_path / "none"), 1.0) == (None, "No such file or directory")


def test_a_stranger_is_refused_at_once(stranger: Place) -> None:
    with pytest.raises(Unauthorized, match=f"belongs to uid {NOBODY}, who is neither you"):
        stranger.connect(stranger.candidates()[0], 1.0)


def test_a_call_does_not_wait_for_a_stranger_to_leave(stranger: Place) -> None:
    with (
        SessionDB(stranger.database, socket=stranger.socket, autostart=False, timeout=600) as db,
        pytest.raises(Unauthorized, match="nothing was sent"),
    ):
        db.ensure_session("s")


def test_advice_names_the_command(place: Place) -> None:
    assert place.advice() == (
        f"start one with: sessiond serve --database {place.database} --socket {place.socket}"
    )


def test_advice_on_a_daemon_that_was_started_has_its_last_lines(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier one\nslow\nslower\n")
    known = len("of an earlier one\n")
    monkeypatch.setitem(_starter._wanted, place.database, (["sessiond", "serve"], log, known))
    starting = Place(place.database, place.socket, autostart=True)
    assert starting.advice() == (
        "a daemon was started and does not answer yet, run it yourself: sessiond serve"
        "\n  slow\n  slower"
    )
    assert place.advice().startswith("start one with: ")
