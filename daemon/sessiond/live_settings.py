"""The settings in effect while a daemon runs: read again at SIGHUP, and told with their origins."""

import dataclasses
import logging
from collections.abc import Callable, Mapping

from sessiond.settings import BadSetting, Settings, shown, specs

log = logging.getLogger("sessiond")

Read = Callable[[], tuple[Settings, Mapping[str, str]]]


class LiveSettings:
    """The settings, ``now``; ``read`` gives them and where each came from, at any time anew.

    What ``read`` raises the first time is passed on.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self.now, origins = read()
        self._origins = dict(origins)

    def read_again(self) -> None:
        """Take over what may change while the daemon runs; the log names what waits."""
        try:
            wanted, origins = self._read()
        except (BadSetting, OSError) as error:
            log.error("settings stay as they are: %s", error)
            return
        changes = {
            name: getattr(wanted, name)
            for name in specs()
            if getattr(wanted, name) != getattr(self.now, name)
        }
        now = {name: value for name, value in changes.items() if specs()[name][0].reload}
        later = changes.keys() - now.keys()
        self.now = dataclasses.replace(self.now, **now)
        self._origins.update({name: origins[name] for name in specs() if name not in later})
        log.info(
            "settings read again; changed: %s%s",
            ", ".join(f"{name} = {value}" for name, value in now.items()) or "nothing",
            f"; after a restart: {', '.join(sorted(later))}" if later else "",
        )

    def described(self) -> dict[str, dict[str, str]]:
        """Each setting's value as people write it, and its origin; see :func:`settings.load`."""
        return {
            name: {"value": shown(spec, getattr(self.now, name)), "origin": self._origins[name]}
            for name, (spec, _) in specs().items()
        }
