"""Who may connect."""

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sessiond import peers
from sessiond.peers import Credentials, Policy
from sessiond.settings import Settings

NOBODY = 65_534


def _peer(uid: int, *gids: int) -> Credentials:
    return Credentials(12, uid, frozenset(gids))


POLICY = Policy(frozenset({0, 1000, 1001}), frozenset({50}), no_uid=NOBODY, no_gid=NOBODY)


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (_peer(0), True),
        (_peer(1000, 1000), True),
        (_peer(1002, 1002), False),
        (_peer(1002, 1002, 50), True),
        (_peer(NOBODY, 50), False),
        (_peer(2**32 - 1), False),
    ],
)
def test_users_and_groups_that_are_named_may_connect(peer: Credentials, allowed: bool) -> None:
    assert POLICY.allows(peer) is allowed


def test_the_stand_in_for_foreign_users_is_refused_even_if_it_is_named() -> None:
    policy = Policy(frozenset({0, NOBODY}), frozenset({NOBODY}), no_uid=NOBODY, no_gid=NOBODY)
    assert not policy.allows(_peer(NOBODY, NOBODY))
    assert not policy.allows(_peer(1002, NOBODY))


def test_the_settings_name_users_and_groups() -> None:
    policy = Policy.of(Settings(allow_uids=(7,), allow_gids=(8,)), group=9)
    assert policy.uids == {0, os.geteuid(), 7}
    assert policy.gids == {8, 9}
    assert policy.no_uid == peers.overflow_id("uid")


def test_without_settings_only_the_own_user_and_root_may_connect() -> None:
    policy = Policy.of(Settings())
    assert policy.allows(_peer(os.geteuid()))
    assert not policy.gids


def test_the_kernel_says_what_stands_for_foreign_users() -> None:
    found = Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")
    assert peers.overflow_id("uid") == int(found)
    assert peers.overflow_id("nonsense") == NOBODY


def test_a_process_that_cannot_be_seen_has_no_number() -> None:
    assert str(Credentials(0, 7, frozenset())) == "pid ?, uid 7"
    assert str(Credentials(5, 7, frozenset())) == "pid 5, uid 7"


def test_a_peer_is_known_by_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = peers.credentials_of(ours)
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    assert os.getegid() in found.gids


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_known_with_all_groups() -> None:
    name = f"\0sessiond-test-{os.getpid()}"  # no directory of ours is open to other users
    program = (
        "import os, socket; os.setgroups([50, 51]); os.setgid(1234); os.setuid(1235);"
        f"s = socket.socket(socket.AF_UNIX); s.connect({name!r}); s.recv(1)"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        listener.settimeout(10)
        with subprocess.Popen([sys.executable, "-c", program]) as other:
            connected, _ = listener.accept()
            with connected:
                found = peers.credentials_of(connected)
            other.wait(10)
    assert found == Credentials(other.pid, 1235, frozenset({1234, 50, 51}))


def test_credentials_of_macos_are_read() -> None:
    raw = struct.pack("@IIh16I", 0, 501, 2, 20, 80, *[0] * 14)
    assert peers.parse_xucred(raw, 7) == Credentials(7, 501, frozenset({20, 80}))
    assert peers.parse_xucred(raw[:20], 0) == Credentials(0, 501, frozenset({20, 80}))
