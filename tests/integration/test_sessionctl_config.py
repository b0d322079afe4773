"""``sessionctl config`` beside a daemon whose settings come from everywhere."""

import signal
import time
from pathlib import Path

from tests.support.daemon import running
from tests.support.sessionctl import PATIENCE, Ctl


def test_config_shows_what_a_running_daemon_goes_by(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("slow_request = 5\ncache_size = '32MiB'\n")
    options = ("--pool-size", "3", "--config", str(file))
    for daemon in running(tmp_path, *options, SESSIOND_LOCK_TIMEOUT="15", SESSIOND_SOCKET=""):
        ctl = Ctl(daemon)
        found = ctl.json("config")["settings"]
        assert found["pool_size"] == {"value": "3", "origin": "--pool-size"}
        assert found["lock_timeout"] == {"value": "15s", "origin": "SESSIOND_LOCK_TIMEOUT"}
        assert found["cache_size"] == {"value": "32MiB", "origin": str(file)}
        assert found["durability"] == {"value": "full", "origin": "default"}
        assert found["database"] == {"value": str(daemon.database), "origin": "--database"}
        lines = [line.split() for line in ctl.out("config").splitlines()]
        assert ["lock_timeout", "15s", "SESSIOND_LOCK_TIMEOUT"] in lines
        file.write_text("slow_request = 7\ncache_size = '16MiB'\n")
        daemon.signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while (found := ctl.json("config")["settings"])["slow_request"]["value"] != "7s":
            assert time.monotonic() < deadline
        assert found["slow_request"] == {"value": "7s", "origin": str(file)}
        assert found["cache_size"] == {"value": "32MiB", "origin": str(file)}
