"""The future of a write that was handed over to be answered later."""

from concurrent.futures import Future
from typing import TypeVar

from sessiond_client._call import Call
from sessiond_client._pump import Pump

T = TypeVar("T")


class WriteFuture(Future[T]):
    """The result of a write that was handed over; it can no longer be cancelled.

    Callbacks run on the thread that reads the answers. One that waits there for another future
    reads its answer itself.
    """

    def __init__(self, pump: Pump, call: Call) -> None:
        super().__init__()
        self._pump = pump
        self._call = call
        self.set_running_or_notify_cancel()
        call.wakers += (self._resolve,)

    def result(self, timeout: float | None = None) -> T:
        """The result of the write, or its error raised."""
        self._pump.wait_if_leading(self._call, timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error of the write, or None."""
        self._pump.wait_if_leading(self._call, timeout)
        return super().exception(timeout)

    def _resolve(self, done: Call) -> None:
        if done.error is not None:
            self.set_exception(done.error)
        else:
            self.set_result(done.result)
