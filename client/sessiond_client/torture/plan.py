"""What will be done to the daemon and its clients, and when: made from a seed, reproducibly."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Nothing happens in the first moments, so that every writer has begun, nor in the last ones.
LEAD_SECONDS: Final = 0.8
TAIL_SECONDS: Final = 0.5


class Kind(StrEnum):
    """The faults, in the words of the report, and the care that goes on under them."""

    KILL_DAEMON = "daemon killed"
    PAUSE_DAEMON = "daemon stopped and continued"
    RESTART_DAEMON = "daemon asked to stop, started again"
    FILL_DISK = "disk full"
    HOLD_LOCK = "write lock held by another program"
    KILL_CLIENT = "client killed"
    PAUSE_CLIENT = "client stopped and continued"
    CUT = "connection cut inside a message"
    BACKUP = "backup taken"
    CHECK = "check run"
    REINDEX = "search index made anew"
    VACUUM = "vacuum run"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``at`` seconds after the start, for ``seconds``.

    ``client`` is the number of the client it meets; None for what meets all. ``share`` is how
    much of a message passes before its connection is cut, 0 to 1; ``answers`` cuts a message
    from the daemon, and has a check look at the file itself.
    """

    at: float
    kind: Kind
    seconds: float = 0.0
    client: int | None = None
    share: float = 0.0
    answers: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run is made from. ``faults`` are in the order of time."""

    seed: int
    seconds: float
    clients: int
    faults: tuple[Fault, ...]


# How often, and for how many seconds, from and to. A daemon that was killed is started again
# after these seconds, as systemd would.
_DAEMON: Final[tuple[tuple[Kind, int, float, float], ...]] = (
    (Kind.KILL_DAEMON, 10, 0.0, 0.3),
    (Kind.PAUSE_DAEMON, 3, 0.1, 1.0),
    (Kind.RESTART_DAEMON, 2, 0.0, 0.2),
    (Kind.FILL_DISK, 3, 0.2, 1.0),
    (Kind.HOLD_LOCK, 2, 0.1, 0.8),
)
_CLIENT: Final[tuple[tuple[Kind, int, float, float], ...]] = (
    (Kind.KILL_CLIENT, 3, 0.0, 0.2),
    (Kind.PAUSE_CLIENT, 2, 0.1, 1.0),
    (Kind.CUT, 6, 0.0, 0.0),
)
_CARE: Final[tuple[tuple[Kind, int, float, float], ...]] = (
    (Kind.BACKUP, 5, 0.0, 0.0),
    (Kind.CHECK, 3, 0.0, 0.0),
    (Kind.REINDEX, 1, 0.0, 0.0),
    (Kind.VACUUM, 1, 0.0, 0.0),
)
_DAEMON_PAUSE: Final = (0.2, 1.2)
_CLIENT_PAUSE: Final = (0.1, 0.7)
_CARE_PAUSE: Final = (0.4, 1.6)


def make_plan(seed: int, seconds: float, clients: int) -> Plan:
    """The plan of a seed. At most one fault at a time meets the daemon, and one the clients.

    Care is taken one after the other, whatever else happens.
    """
    chance = random.Random(f"faults of {seed}")
    faults = [
        *_line(chance, seconds, _DAEMON, _DAEMON_PAUSE, None),
        *_line(chance, seconds, _CLIENT, _CLIENT_PAUSE, clients),
        *_line(chance, seconds, _CARE, _CARE_PAUSE, None),
    ]
    return Plan(seed, seconds, clients, tuple(sorted(faults, key=lambda fault: fault.at)))


def _line(
    chance: random.Random,
    seconds: float,
    kinds: tuple[tuple[Kind, int, float, float], ...],
    pause: tuple[float, float],
    clients: int | None,
) -> list[Fault]:
    """One fault after the other; each kind comes once before the dice decide."""
    faults: list[Fault] = []
    first = list(kinds)
    chance.shuffle(first)
    weights = [weight for _, weight, _, _ in kinds]
    at = LEAD_SECONDS
    while at < seconds - TAIL_SECONDS:
        kind, _, least, most = first.pop() if first else chance.choices(kinds, weights)[0]
        length = chance.uniform(least, most)
        faults.append(
            Fault(
                round(at, 3),
                kind,
                round(length, 3),
                None if clients is None else chance.randrange(clients),
                round(chance.random(), 3),
                chance.random() < 0.5,
            )
        )
        at += length + chance.uniform(*pause)
    return faults
