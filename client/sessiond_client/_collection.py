"""Writes that are collected and not sent yet: what every batch is, whoever sends it."""

from collections.abc import Sequence
from typing import Any

from sessiond_client._requests import Plan
from sessiond_protocol.requests import Request


class Collection:
    """Writes in the order of the calls, while its block is open.

    ``results`` has one result per write once the block has ended well, and is empty before.
    """

    def __init__(self) -> None:
        self._open = False
        self._plans: list[Plan[Any]] = []
        self._requests: list[Request[Any]] = []
        self.results: list[Any] = []

    def __len__(self) -> int:
        return len(self._requests)

    def _enter(self) -> None:
        if self._open or self._requests:
            raise RuntimeError("a batch is used for one block: make another one")
        self._open = True

    def _leave(self) -> list[Request[Any]]:
        """End the block; what is to be sent as one request."""
        self._open = False
        return self._requests

    def _add(self, plan: Plan[Any]) -> int:
        """Collect a write; its place in the results. Bad arguments raise here."""
        if not self._open:
            raise RuntimeError("a batch collects writes inside its block only")
        self._requests.append(next(plan))
        self._plans.append(plan)
        return len(self._requests) - 1

    def _take(self, results: Sequence[Any]) -> None:
        """Keep the raw results as the calls would have returned them."""
        self.results = [
            _end(plan, result) for plan, result in zip(self._plans, results, strict=True)
        ]


def _end(plan: Plan[Any], result: Any) -> Any:
    try:
        plan.send(result)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("a write of several requests cannot be part of a batch")
