"""Which function applies which request."""

from collections.abc import Callable
from typing import Any, TypeVar

from sessiond.sqlite.batch import Batch
from sessiond_protocol.requests import Request

Handler = Callable[[Batch, Any], Any]
F = TypeVar("F", bound=Handler)

HANDLERS: dict[type[Request[Any]], Handler] = {}


def handles(request: type[Request[Any]]) -> Callable[[F], F]:
    """Declare the function below as the one that applies ``request``.

    A handler makes the check that may fail before its first change. It reads no clock and no
    randomness: a batch may be applied twice, and both runs must do the same.
    """

    def register(handler: F) -> F:
        HANDLERS[request] = handler
        return handler

    return register
