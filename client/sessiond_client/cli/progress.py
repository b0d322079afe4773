"""Progress on standard error, where a person watches: of counted work, and of a daemon's job."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from sessiond_client.cli import output
from sessiond_client.cli.exits import INTERRUPTED, Refused

if TYPE_CHECKING:
    from rich import progress as rich_progress


class Progress:
    """How much of ``total`` is done; shows nothing unless a person watches standard error.

    ``total`` None means that nobody knows.
    """

    def __init__(self, label: str, total: float | None, *, in_bytes: bool = False) -> None:
        self._bar: rich_progress.Progress | None = None
        if not output.redraws(sys.stderr):
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


class Follow(Protocol):
    """Takes the states of a job, as ``SessionDB.backup`` and its like tell them."""

    def __call__(self, state: Mapping[str, Any], /) -> None: ...


@contextmanager
def job_progress(what: str) -> Iterator[Follow]:
    """A bar with the job's present step; shows nothing unless a person watches standard error.

    Who is interrupted is told that the daemon goes on.
    """
    try:
        if not output.redraws(sys.stderr):
            yield lambda _state: None
            return
        with _steps() as bar:
            task = bar.add_task(what, total=None)

            def follow(state: Mapping[str, Any]) -> None:
                fraction = state["fraction"]
                bar.update(
                    task,
                    description=state["step"] or what,
                    total=None if fraction is None else 1.0,
                    completed=fraction or 0.0,
                )

            yield follow
    except KeyboardInterrupt:
        raise Refused(f"interrupted; the daemon goes on with the {what}", INTERRUPTED) from None


def _steps() -> "rich_progress.Progress":
    from rich import progress as parts
    from rich.console import Console

    return parts.Progress(
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(),
        parts.TaskProgressColumn(),
        parts.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
