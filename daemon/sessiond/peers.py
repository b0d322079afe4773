"""Who is at the other end of a Unix socket, and whether they may be."""

import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from sessiond.settings import Settings

_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it


@dataclass(frozen=True, slots=True)
class Credentials:
    """A peer as the kernel knew it at connect. ``pid`` is 0 across pid namespaces."""

    pid: int
    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        return f"pid {self.pid or '?'}, uid {self.uid}"


def credentials_of(connected: socket.socket) -> Credentials:
    """The credentials of a connection's peer."""
    size = struct.calcsize("3i")
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, gid = struct.unpack("3i", raw)
    return Credentials(pid, uid & 0xFFFF_FFFF, frozenset({gid & 0xFFFF_FFFF}) | _groups(connected))


def _groups(connected: socket.socket) -> frozenset[int]:
    try:
        raw = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * 1024)
    except OSError:
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def overflow_uid() -> int:
    """What every user of a foreign namespace looks like; never allowed."""
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 65534


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may connect: the daemon's own user, root, and whom the settings name."""

    uids: frozenset[int]
    gids: frozenset[int]
    never: int

    @classmethod
    def of(cls, settings: Settings, group: int | None = None) -> "Policy":
        """The policy that the settings describe; ``group`` is that of the socket."""
        gids = set(settings.allow_gids) | ({group} if group is not None else set())
        uids = {0, os.geteuid(), *settings.allow_uids}
        return cls(frozenset(uids), frozenset(gids), overflow_uid())

    def allows(self, peer: Credentials) -> bool:
        """Whether this peer may connect."""
        if peer.uid == self.never:
            return False
        return peer.uid in self.uids or bool(self.gids & peer.gids)
