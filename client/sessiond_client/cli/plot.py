"""Drawing in the terminal. Pure: numbers in, lines out."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from sessiond_client.cli import units

_BARS: Final = " ▏▎▍▌▋▊▉"
_FULL: Final = "█"
# Buckets to a factor of ten: each is about a quarter wider than the one below.
_PER_DECADE: Final = 10
_MOST_WIDTH: Final = 100


def histogram(seconds: Sequence[float], width: int) -> Iterator[str]:
    """How often which latency occurred, on a logarithmic scale, one line per bucket.

    A bar shows a bucket's share. What lies over a percentile is named at its line.
    """
    if not seconds:
        return
    buckets: dict[int, int] = {}
    for value in seconds:
        place = math.floor(math.log10(max(value, 1e-9)) * _PER_DECADE)
        buckets[place] = buckets.get(place, 0) + 1
    room = max(10, min(width, _MOST_WIDTH) - 30)
    most, below = max(buckets.values()), 0
    for place in range(min(buckets), max(buckets) + 1):
        count = buckets.get(place, 0)
        below += count
        upper = units.milliseconds(10 ** ((place + 1) / _PER_DECADE))
        drawn = bar(count / most, room) or ("·" if count else "")
        yield f"{'< ' + upper:>12}  {below / len(seconds):>7.2%}  {drawn}".rstrip()


def bar(share: float, width: int) -> str:
    """A bar of ``width`` cells for 1, in eighths of a cell."""
    eighths = round(share * width * 8)
    return _FULL * (eighths // 8) + _BARS[eighths % 8].strip()
