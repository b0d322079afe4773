"""``db.batch()``: several writes as one request, stored all or none."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from sessiond_client import _requests as plans
from sessiond_client._batch_calls import BatchCalls

if TYPE_CHECKING:
    from sessiond_client._asyncio import AsyncStore
    from sessiond_client._blocking import BlockingStore


class Batch(BatchCalls):
    """A batch of a :class:`~sessiond_client.SessionDB`; see its ``batch``."""

    def __init__(self, db: "BlockingStore") -> None:
        super().__init__()
        self._db = db

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        requests = self._leave()
        if kind is None and requests:
            self._take(self._db._run(plans.apply_batch(requests)))


class AsyncBatch(BatchCalls):
    """A batch of an :class:`~sessiond_client.AsyncSessionDB`; see its ``batch``.

    Its writes are collected without waiting; only the end of the block awaits.
    """

    def __init__(self, db: "AsyncStore") -> None:
        super().__init__()
        self._db = db

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        requests = self._leave()
        if kind is None and requests:
            self._take(await self._db._run(plans.apply_batch(requests)))
