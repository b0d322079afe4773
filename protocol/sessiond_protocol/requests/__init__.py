"""Every request, by its method name. Adding one to a module here makes it known everywhere."""

from collections.abc import Iterator
from typing import Any

from sessiond_protocol.requests import feed, job, message, route, server, session
from sessiond_protocol.requests.base import Kind, Request, result_type

_MODULES = (session, message, route, server, feed, job)


def _declared() -> Iterator[type[Request[Any]]]:
    for module in _MODULES:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Request) and value.METHOD:
                yield value


REQUESTS: dict[str, type[Request[Any]]] = {request.METHOD: request for request in _declared()}

__all__ = ["REQUESTS", "Kind", "Request", "result_type"]
