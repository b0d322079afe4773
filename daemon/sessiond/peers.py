"""Who is at the other end of a Unix socket, and whether they may be.

Credentials are those that the kernel noted when the peer connected. No decision rests on the
process id except which of two connections is the newer one of the same process.
"""

import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final

from sessiond.settings import Settings

# asm-generic/socket.h; Python has no name for it.
_SO_PEERGROUPS: Final = 59
# What Python's getsockopt takes at most: 256 groups.
_LARGEST_OPTION: Final = 1024

# sys/un.h of macOS and the BSDs.
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_LOCAL_PEERPID: Final = 2
_XUCRED: Final = struct.Struct("@IIh16I")

# The kernel's default for ids that have no name in a namespace.
_OVERFLOW_ID: Final = 65_534


@dataclass(frozen=True, slots=True)
class Credentials:
    """A peer as the kernel knew it at connect. ``pid`` is 0 across pid namespaces."""

    pid: int
    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        return f"pid {self.pid or '?'}, uid {self.uid}"


def credentials_of(connected: socket.socket) -> Credentials:
    """The credentials of a connection's peer. Raises ``OSError`` if the kernel has none."""
    if sys.platform != "linux":
        return _credentials_of_bsd(connected)
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    pid, uid, gid = struct.unpack("iII", raw)
    return Credentials(pid, uid, frozenset({gid}) | _groups(connected))


def _groups(connected: socket.socket) -> frozenset[int]:
    """The supplementary groups; none if the kernel does not say or there are over 256."""
    try:
        raw = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LARGEST_OPTION)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def _credentials_of_bsd(connected: socket.socket) -> Credentials:
    raw = connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
    try:
        pid = connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
    except OSError:
        pid = 0
    return parse_xucred(raw, pid)


def parse_xucred(raw: bytes, pid: int) -> Credentials:
    """Credentials from a ``struct xucred``: version, uid, number of groups, groups."""
    _, uid, count, *groups = _XUCRED.unpack(raw.ljust(_XUCRED.size, b"\0"))
    return Credentials(pid, uid, frozenset(groups[: max(0, count)]))


def overflow_id(name: str) -> int:
    """What every ``uid`` or ``gid`` of a foreign namespace looks like here."""
    try:
        with open(f"/proc/sys/kernel/overflow{name}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _OVERFLOW_ID


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may connect: the daemon's own user, root, and whom the settings name.

    ``no_uid`` and ``no_gid`` are never allowed, even if they are named: they stand for all
    users of all foreign containers.
    """

    uids: frozenset[int]
    gids: frozenset[int]
    no_uid: int = _OVERFLOW_ID
    no_gid: int = _OVERFLOW_ID

    @classmethod
    def of(cls, settings: Settings, group: int | None = None) -> "Policy":
        """The policy that the settings describe; ``group`` is that of the socket."""
        gids = set(settings.allow_gids) | ({group} if group is not None else set())
        uids = {0, os.geteuid(), *settings.allow_uids}
        return cls(frozenset(uids), frozenset(gids), overflow_id("uid"), overflow_id("gid"))

    def allows(self, peer: Credentials) -> bool:
        """Whether this peer may connect."""
        if peer.uid == self.no_uid:
            return False
        return peer.uid in self.uids or bool(self.gids & (peer.gids - {self.no_gid}))
