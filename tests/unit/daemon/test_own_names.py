"""Which names beside a database are its own, and what a backup that is given one of them meets."""

import os
from pathlib import Path

import pytest

from sessiond.job import Job
from sessiond.sqlite import own_names
from sessiond.sqlite.jobs import backup
from sessiond.sqlite.refusal import OpenRefused
from sessiond.sqlite.restore import restore
from sessiond_protocol.errors import Code, Failure
from tests.unit.daemon.stores import opened
from tests.unit.daemon.test_job_work import Errands


@pytest.mark.parametrize(
    "suffix", ["", "-wal", ".sessiond", ".restoring", ".check.partial-journal"]
)
def test_a_name_is_own_whatever_leads_to_it(tmp_path: Path, suffix: str) -> None:
    home, own = tmp_path / "home", tmp_path / "home" / f"state.db{suffix}"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    database = str(tmp_path / "link" / "state.db")
    assert own_names.own_name(str(own), database) == str(own)
    assert own_names.own_name(str(tmp_path / "link" / own.name), database) == str(own)
    own.touch()
    (tmp_path / "hard").hardlink_to(own)
    (tmp_path / "soft").symlink_to(own)
    assert own_names.own_name(str(tmp_path / "hard"), database) == str(own)
    assert own_names.own_name(str(tmp_path / "soft"), database) == str(own)
    assert own_names.own_name(str(home / "state.db.bak"), database) is None
    assert own_names.own_name(str(tmp_path / own.name), database) is None


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_backup_never_removes_the_database_as_an_unfinished_copy(
    tmp_path: Path, suffix: str
) -> None:
    """Where it would be made is the database's name, or its log's."""
    database = tmp_path / "state.partial"
    with opened(database) as file:
        file.append("s", "one")
        before = sorted(os.listdir(tmp_path))
        path = str(tmp_path / "state") if not suffix else f"{database}{suffix}"
        with pytest.raises(Failure, match="is a file of the database itself") as caught:
            backup.run(Job(1, "backup", Errands()), file.store, path)
        assert caught.value.code is Code.INVALID_PARAMS
        assert sorted(os.listdir(tmp_path)) == before


def test_a_restore_never_removes_the_backup_as_an_unfinished_copy(tmp_path: Path) -> None:
    database, left = tmp_path / "state.db", tmp_path / "state.db.restoring"
    with opened(left) as file:
        file.append("s", "what an attempt that was cut short has left")
    with pytest.raises(OpenRefused, match="is a file of the database"):
        restore(str(left), str(database), patience=0)
    assert left.exists()
    assert not database.exists()
