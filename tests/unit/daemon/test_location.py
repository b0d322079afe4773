"""Paths that may and may not hold a database, judged without opening anything."""

import os
from pathlib import Path

import pytest

from sessiond.sqlite import location
from sessiond.sqlite.location import checked_path, file_system_of, is_network
from sessiond.sqlite.refusal import OpenRefused, Reason


def refusal(path: Path | str) -> OpenRefused:
    """The refusal that a path meets."""
    with pytest.raises(OpenRefused) as caught:
        checked_path(path)
    return caught.value


def test_a_missing_file_and_a_link_to_one_are_fine(tmp_path: Path) -> None:
    assert checked_path(tmp_path / "state.db") == str(tmp_path / "state.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "state.db")
    assert checked_path(tmp_path / "link.db") == str(tmp_path / "state.db")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path)
    assert refused.reason is Reason.NOT_A_FILE
    assert "is a directory" in refused.message
    assert refused.exit_status == 66


def test_a_pipe_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.db")
    assert refusal(tmp_path / "state.db").reason is Reason.NOT_A_FILE


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert (
        f"directory {tmp_path}/none does not exist" in refusal(tmp_path / "none/state.db").message
    )


def test_a_file_as_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert refusal(tmp_path / "file/state.db").reason is Reason.NO_ACCESS


def test_nul_is_refused() -> None:
    assert refusal("/tmp/a\0b").reason is Reason.NOT_A_FILE


def test_a_second_hard_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"")
    (tmp_path / "other.db").hardlink_to(tmp_path / "state.db")
    refused = refusal(tmp_path / "state.db")
    assert refused.reason is Reason.LINKED
    assert "2 hard links" in refused.message


def test_a_network_file_system_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / {tmp_path} rw - nfs4 host:/ rw\n"
    )
    monkeypatch.setattr(location, "_MOUNTS", str(mounts))
    refused = refusal(tmp_path / "state.db")
    assert refused.reason is Reason.NETWORK
    assert "(nfs4)" in refused.message
    assert checked_path(tmp_path / "state.db", allow_network_fs=True)


def test_without_a_list_of_mounts_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_MOUNTS", str(tmp_path / "none"))
    assert checked_path(tmp_path / "state.db")


_MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /home rw - ext4 /dev/b rw
24 23 0:40 / /home/me/my\\040files rw shared:9 master:1 - fuse.sshfs host: rw
25 23 0:41 / /home/me/disk rw - fuse.ntfs-3g /dev/c rw
26 22 0:42 / /mnt rw - cifs //host/share rw
27 22 0:43 / /mnt rw - ext4 /dev/over rw
a broken line
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/state.db", "ext4", False),
        ("/home/me/state.db", "ext4", False),
        ("/home/me/my files/state.db", "fuse.sshfs", True),
        ("/home/me/my files", "fuse.sshfs", True),
        ("/home/me/my files 2/state.db", "ext4", False),
        ("/home/me/disk/state.db", "fuse.ntfs-3g", False),
        ("/mnt/state.db", "ext4", False),
    ],
)
def test_the_innermost_and_last_mount_decides(path: str, kind: str, network: bool) -> None:
    assert file_system_of(path, _MOUNTS) == kind
    assert is_network(kind) is network


def test_no_mount_no_type() -> None:
    assert file_system_of("/state.db", "") == ""
    assert not is_network("")
