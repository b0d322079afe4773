"""What a worker is asked to do, one mix at a time: the same for every peer, decided by a seed."""

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

MESSAGES_PER_LIST: Final = 20
SESSIONS_PER_WORKER: Final = 8
# A worker makes this many operations before it starts and goes through them again and again, so
# that making them is no part of what is measured.
_OPERATIONS_AHEAD: Final = 4000


class Mix(Enum):
    """The kinds of work that are compared."""

    APPEND = "append"
    APPEND_MANY = "append_many"
    TOKENS = "tokens"
    TURN = "turn"
    TRANSCRIPT = "transcript"
    LIST = "list"
    SEARCH = "search"


WRITES: Final = frozenset({Mix.APPEND, Mix.APPEND_MANY, Mix.TOKENS, Mix.TURN})
READS: Final = frozenset({Mix.TRANSCRIPT, Mix.LIST, Mix.SEARCH})


@dataclass(frozen=True, slots=True)
class Message:
    """One message to append; ``arguments`` is what a call is given besides the session."""

    session: str
    role: str
    content: str | None
    tool_name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    token_count: int | None = None
    finish_reason: str | None = None
    arguments: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        others = ("tool_name", "tool_calls", "tool_call_id", "token_count", "finish_reason")
        given = {name: value for name in others if (value := getattr(self, name)) is not None}
        object.__setattr__(self, "arguments", {"role": self.role, "content": self.content, **given})


@dataclass(frozen=True, slots=True)
class Append:
    """Append one message, answered when it is durable."""

    message: Message


@dataclass(frozen=True, slots=True)
class AppendMany:
    """Append messages of one session, all or none."""

    session: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class AddTokens:
    """Add to a session's token counters."""

    session: str
    input_tokens: int
    output_tokens: int
    model: str


@dataclass(frozen=True, slots=True)
class ReadTranscript:
    """Every message of one session, in order."""

    session: str


@dataclass(frozen=True, slots=True)
class ListSessions:
    """The 20 newest sessions with preview and time of the last message."""


@dataclass(frozen=True, slots=True)
class Search:
    """The 20 best matches of one word."""

    word: str


Operation: TypeAlias = Append | AppendMany | AddTokens | ReadTranscript | ListSessions | Search


def messages_in(operation: Operation) -> int:
    """How many messages the operation stores."""
    if isinstance(operation, Append):
        return 1
    return len(operation.messages) if isinstance(operation, AppendMany) else 0


def worker_sessions(worker: int, run: str = "") -> list[str]:
    """The sessions that one worker writes to, and nobody else. ``run`` begins their ids."""
    return [f"{run}worker-{worker}-{number}" for number in range(SESSIONS_PER_WORKER)]


def prefilled_sessions(messages: int, session_length: int, run: str = "") -> list[str]:
    """The sessions that hold the messages stored before the work begins."""
    return [f"{run}before-{number}" for number in range(-(-messages // session_length))]


@dataclass(frozen=True, slots=True)
class Work:
    """What the operations are made of: who works, on which text, beside which stored sessions."""

    seed: int
    worker: int
    text: Sequence[str]
    stored_sessions: Sequence[str]
    run: str = ""

    @property
    def sessions(self) -> list[str]:
        """The sessions that this worker writes to."""
        return worker_sessions(self.worker, self.run)


def operations(mix: Mix, work: Work) -> Iterator[Operation]:
    """One worker's operations without end; the same arguments give the same ones."""
    if mix is Mix.TRANSCRIPT and not work.stored_sessions:
        raise ValueError("the transcript mix needs stored sessions; none were stored before")
    chooser = random.Random(f"{work.seed}/{work.worker}")
    endless = _MAKERS[mix](work, chooser)
    return itertools.cycle(list(itertools.islice(endless, _OPERATIONS_AHEAD)))


def _texts(work: Work, chooser: random.Random) -> Iterator[str]:
    while True:
        yield from chooser.sample(work.text, len(work.text))


def _single_messages(work: Work, chooser: random.Random, session: str) -> Iterator[Message]:
    texts = _texts(work, chooser)
    for role in itertools.cycle(("user", "assistant")):
        yield Message(session, role, next(texts))


def _appends(work: Work, chooser: random.Random) -> Iterator[Operation]:
    streams = [_single_messages(work, chooser, name) for name in work.sessions]
    for stream in itertools.cycle(streams):
        yield Append(next(stream))


def _lists(work: Work, chooser: random.Random) -> Iterator[Operation]:
    sessions = work.sessions
    streams = [(name, _single_messages(work, chooser, name)) for name in sessions]
    for name, stream in itertools.cycle(streams):
        yield AppendMany(name, tuple(itertools.islice(stream, MESSAGES_PER_LIST)))


def _token_updates(work: Work, chooser: random.Random) -> Iterator[Operation]:
    for session in itertools.cycle(work.sessions):
        yield _token_update(session, chooser)


def _token_update(session: str, chooser: random.Random) -> AddTokens:
    return AddTokens(session, chooser.randint(200, 8000), chooser.randint(10, 900), "model-a")


def _turns(work: Work, chooser: random.Random) -> Iterator[Operation]:
    texts = _texts(work, chooser)
    for session, number in zip(itertools.cycle(work.sessions), itertools.count(), strict=False):
        yield from _turn(session, f"call_{work.worker}_{number}", texts, chooser)


def _turn(
    session: str, call_id: str, texts: Iterator[str], chooser: random.Random
) -> Iterator[Operation]:
    """A gateway's turn: question, tool call, its result, answer, and what it cost."""
    question, found, answer = next(texts), next(texts), next(texts)
    call = {
        "id": call_id,
        "type": "function",
        "function": {"name": "search_files", "arguments": f'{{"pattern": "{call_id}"}}'},
    }
    yield Append(Message(session, "user", question))
    yield Append(Message(session, "assistant", None, tool_calls=[call], finish_reason="tool_calls"))
    yield Append(Message(session, "tool", found, tool_name="search_files", tool_call_id=call_id))
    yield Append(
        Message(session, "assistant", answer, token_count=len(answer) // 4, finish_reason="stop")
    )
    yield _token_update(session, chooser)


def _transcripts(work: Work, chooser: random.Random) -> Iterator[Operation]:
    while True:
        yield ReadTranscript(chooser.choice(work.stored_sessions))


def _listings(_work: Work, _chooser: random.Random) -> Iterator[Operation]:
    return itertools.repeat(ListSessions())


def _searches(work: Work, chooser: random.Random) -> Iterator[Operation]:
    # Words are drawn from the text as they stand there, so common ones come often. FTS5 reads
    # AND, OR and NOT in capitals as operators.
    for text in _texts(work, chooser):
        words = re.findall(r"\b[a-z]{4,}\b", text)
        if words:
            yield Search(chooser.choice(words))


_MAKERS: Final[dict[Mix, Callable[[Work, random.Random], Iterator[Operation]]]] = {
    Mix.APPEND: _appends,
    Mix.APPEND_MANY: _lists,
    Mix.TOKENS: _token_updates,
    Mix.TURN: _turns,
    Mix.TRANSCRIPT: _transcripts,
    Mix.LIST: _listings,
    Mix.SEARCH: _searches,
}
