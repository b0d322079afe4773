"""The clock that deadlines are on: it goes on while the machine is suspended."""

import time
from collections.abc import Callable
from functools import partial

# Seconds since the machine was started, suspension included.
clock: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
