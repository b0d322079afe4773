"""A progress bar on standard error, where a person watches."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich import progress as rich_progress


class Progress:
    """How much of ``total`` is done; shows nothing unless standard error is a terminal.

    ``total`` None means that nobody knows.
    """

    def __init__(self, label: str, total: float | None, *, in_bytes: bool = False) -> None:
        self._bar: rich_progress.Progress | None = None
        if not sys.stderr.isatty():
            return
        from rich import progress as parts
        from rich.console import Console

        amount = parts.DownloadColumn(binary_units=True) if in_bytes else parts.MofNCompleteColumn()
        self._bar = parts.Progress(
            parts.TextColumn("{task.description}"),
            parts.BarColumn(),
            amount,
            parts.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(label, total=total)

    def advance(self, amount: float) -> None:
        """So much more is done."""
        if self._bar is not None:
            self._bar.advance(self._task, amount)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
