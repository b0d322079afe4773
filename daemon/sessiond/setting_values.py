"""One value of a setting: from text or TOML to what the daemon uses, and back for people."""

import ipaddress
import math
import re
from dataclasses import dataclass
from typing import Any, Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

_BYTES: Final[dict[str, float]] = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3,
}  # fmt: skip
_SECONDS: Final[dict[str, float]] = {
    "": 1, "s": 1, "us": 1e-6, "ms": 1e-3, "min": 60, "h": 3600, "d": 86_400,
}  # fmt: skip
_UNITS: Final = {"bytes": _BYTES, "seconds": _SECONDS, "number": {"": 1.0}}
_EXAMPLES: Final = {
    "bytes": "a number of bytes such as 65536, 64KiB, 16MiB, 1GiB",
    "seconds": "a number of seconds such as 0.5, 250ms, 10s, 5min, 1h",
    "number": "a number such as 0.5 or 90",
}

# The last id is no user: it is -1, which asks the kernel to change nothing.
HIGHEST_ID: Final = 2**32 - 2


class BadSetting(ValueError):
    """A value that is not allowed; the text names the setting, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of a setting besides its default.

    ``kind`` is ``text``, ``path``, ``int``, ``number``, ``bytes``, ``seconds``, ``choice``,
    ``flag``, ``list`` (of ids), ``texts`` (a list of them) or ``address``. ``reload``: SIGHUP
    may change it while the daemon runs.
    """

    help: str
    kind: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    reload: bool = False

    @property
    def allowed(self) -> str:
        """The bounds or choices, for people; ``""`` where anything goes."""
        if self.choices:
            return " or ".join(self.choices)
        low, high = (shown(self, bound) for bound in (self.low, self.high))
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f"at least {low}"
        return f"at most {high}" if self.low is None else f"between {low} and {high}"


def parse(spec: Spec, value: Any, where: str) -> Any:
    """A value from text or from TOML. ``where`` names the setting and its source in errors.

    Raises :class:`BadSetting`.
    """
    match spec.kind:
        case "bytes" | "seconds" | "number":
            return _bounded(spec, _measure(spec.kind, value, where), value, where)
        case "int":
            return _bounded(spec, _integer(value, where), value, where)
        case "list":
            return _ids(value, where)
        case "texts":
            return _texts(value, where)
        case "flag":
            return _truth(value, where)
    text = _text(value, where)
    if spec.kind == "choice" and text not in spec.choices:
        raise BadSetting(f"{where} must be {spec.allowed}, {value!r} is not")
    return _loopback(text, where) if spec.kind == "address" else text


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise BadSetting(f"{where} must be text, {value!r} is not")
    return value


def _integer(value: Any, where: str) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise BadSetting(f"{where} must be a whole number, {value!r} is not") from None


def _measure(kind: str, value: Any, where: str) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value.lower(), re.ASCII)
        if match is not None and match[2] in _UNITS[kind]:
            number = float(match[1]) * _UNITS[kind][match[2]]
    if not math.isfinite(number):
        raise BadSetting(f"{where} must be {_EXAMPLES[kind]}, {value!r} is not")
    return int(number) if kind == "bytes" else number


def _bounded(spec: Spec, number: float, value: Any, where: str) -> float:
    too_low = spec.low is not None and number < spec.low
    too_high = spec.high is not None and number > spec.high
    if too_low or too_high:
        raise BadSetting(f"{where} must be {spec.allowed}, {value!r} is not")
    return number


def _ids(value: Any, where: str) -> tuple[int, ...]:
    parts: list[Any] = []
    for part in value if isinstance(value, list | tuple) else [value]:
        parts += part.replace(",", " ").split() if isinstance(part, str) else [part]
    found = tuple(dict.fromkeys(_integer(part, where) for part in parts))
    for each in found:
        if not 0 <= each <= HIGHEST_ID:
            raise BadSetting(f"{where} must be ids between 0 and {HIGHEST_ID}, {each} is not")
    return found


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """Texts from a list, or from one text in which commas separate them."""
    parts: list[Any] = []
    for part in value if isinstance(value, list | tuple) else [value]:
        parts += part.split(",") if isinstance(part, str) else [part]
    return tuple(dict.fromkeys(_text(part, where).strip() for part in parts))


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    if str(value).lower() not in words:
        raise BadSetting(f"{where} must be true or false, {value!r} is not")
    return words[str(value).lower()]


def _loopback(text: str, where: str) -> str:
    """``HOST:PORT`` on this machine only: whoever can connect there may read it."""
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address("127.0.0.1" if bare == "localhost" else bare)
        number = int(port) if port.isascii() and port.isdigit() else 0
    except ValueError:
        address, number = None, 0
    if address is None or not address.is_loopback or not 0 < number < 65_536:
        raise BadSetting(
            f"{where} must be a loopback address and a port such as 127.0.0.1:9464, {text!r} is not"
        )
    return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of a parsed ``address``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def shown(spec: Spec, value: Any) -> str:
    """A value as people write it, with its unit; reading it back gives the same value."""
    if value is None or value == ():
        return "none"
    match spec.kind:
        case "bytes":
            for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
                if value and value % size == 0:
                    return f"{value // size}{unit}"
            return str(value)
        case "seconds":
            in_ms = f"{value * 1000:.15g}"
            exact = 0 < value < 0.1 and float(in_ms) * _SECONDS["ms"] == value
            return f"{in_ms}ms" if exact else f"{value:.15g}s"
        case "number":
            return f"{value:.15g}"
        case "flag":
            return "yes" if value else "no"
        case "list" | "texts":
            return ", ".join(map(str, value))
    return str(value)
