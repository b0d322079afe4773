"""Numbers, sizes and times as people read them. Pure."""

import time
from typing import Final

_SIZES: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_LONG: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def count(number: float) -> str:
    """``1,234``."""
    return f"{number:,.0f}"


def plural(number: int, noun: str) -> str:
    """``1 session``, ``2,000 sessions``."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def size(amount: float) -> str:
    """Bytes in binary units: ``512 bytes``, ``1.5 KiB``, ``64 MiB``."""
    unit = _SIZES[0]
    for unit in _SIZES:
        if amount < 1024 or unit == _SIZES[-1]:
            break
        amount /= 1024
    digits = 0 if unit == _SIZES[0] or amount >= 100 or amount == int(amount) else 1
    return f"{amount:.{digits}f} {unit}"


def milliseconds(seconds: float) -> str:
    """A latency with three significant digits: ``0.125 ms``, ``12.5 ms``, ``3,200 ms``."""
    value = seconds * 1000
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} ms"


def duration(seconds: float) -> str:
    """A span with its two largest units: ``42 s``, ``3 h 12 min``, ``5 d 2 h``."""
    left = max(0, int(seconds))
    parts = []
    for unit, length in _LONG:
        if left >= length or unit == "s":
            parts.append((left // length, unit))
            left %= length
            break
    index = [unit for unit, _ in _LONG].index(parts[0][1])
    if index + 1 < len(_LONG):
        unit, length = _LONG[index + 1]
        if left >= length:
            parts.append((left // length, unit))
    return " ".join(f"{number} {unit}" for number, unit in parts)


def span(seconds: float) -> str:
    """How long something took: ``0.12 s``, ``3.4 s``, ``2 min 3 s``."""
    if seconds >= 60:
        return duration(seconds)
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def ago(then: float, now: float) -> str:
    """How long ago, in one unit: ``just now``, ``5 min ago``; a date after four weeks."""
    passed = now - then
    if passed < -60:
        return local_date(then)
    if passed < 10:
        return "just now"
    if passed >= 28 * 86_400:
        return local_date(then)
    unit, length = next((unit, length) for unit, length in _LONG if passed >= length)
    return f"{int(passed // length)} {unit} ago"


def local_date(seconds: float) -> str:
    """``2025-11-21`` in local time; the number itself if it is no time."""
    return _local(seconds, "%Y-%m-%d")


def local_time(seconds: float) -> str:
    """``2025-11-21 06:25:11`` in local time; the number itself if it is no time."""
    return _local(seconds, "%Y-%m-%d %H:%M:%S")


def clock_time(seconds: float, now: float) -> str:
    """``06:25:11`` in local time, with the date unless that is today's."""
    day = local_date(seconds)
    return _local(seconds, "%H:%M:%S") if day == local_date(now) else local_time(seconds)


def _local(seconds: float, form: str) -> str:
    try:
        return time.strftime(form, time.localtime(seconds))
    except (ValueError, OverflowError, OSError, TypeError):
        return str(seconds)
