"""The clock that deadlines are on: it goes on while the machine is suspended."""

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def clock() -> float:
        """Seconds since the machine was started, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    clock = time.monotonic
