"""The clock that deadlines are on, and how long to wait before another try."""

import time
from collections.abc import Callable
from functools import partial

# Seconds since the machine was started. It goes on while the machine is suspended.
clock: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


def jittered(longest: float) -> float:
    """Between half of it and all: those who lost one daemon together come back one by one."""
    import random  # few ever wait, and everybody would wait for the import

    return random.uniform(longest / 2, longest)
