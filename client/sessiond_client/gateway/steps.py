"""What a plan asks for: the steps between which a call of the session layer decides.

A plan is a generator. It yields steps and receives their results or failures; the blocking and
the asyncio store carry out the same plans and differ only in how they wait.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from sessiond_protocol.requests import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Callback:
    """Call a function that the gateway was given; it may be a coroutine function there."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class FileWork:
    """Call a function that works on files and may block.

    It is carried out to its end. ``undo`` gets its result if nobody waits for it any more.
    """

    function: Callable[[], Any]
    undo: Callable[[Any], None] | None = None


@dataclass(frozen=True, slots=True)
class Contended:
    """Somebody else was quicker and the plan decides again; fails when the call's time is up."""

    what: str


Step = Request[Any] | Callback | FileWork | Contended
Plan = Generator[Step, Any, T]
