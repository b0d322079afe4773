"""Whether a path may hold a session database, asked of the file system alone.

Nothing here opens the database or the files beside it: a process that opens and closes them by
other means than SQLite loses all its locks on them, and the next program that closes the
database then deletes the log under the writer. ``stat`` and ``access`` by path are safe.
"""

import os
import re
import stat
from typing import Final

from sessiond.sqlite.refusal import OpenRefused, Reason

# File systems whose locks or shared memory are not the same for all who open the file.
_NETWORK: Final = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "sshfs"),
        *("vboxsf", "vmhgfs"),
    }
)
# SQLite's smallest page. It takes a file of one byte for an empty one, and would overwrite it.
_SMALLEST: Final = 512
_MOUNTS: Final = "/proc/self/mountinfo"


def checked_path(path: str | os.PathLike[str], *, allow_network_fs: bool = False) -> str:
    """The real path of a database that may be opened or made; raises :class:`OpenRefused`.

    Refused are anything but a regular file, a file with several names (its log would get
    several, too), one that may not be written, and file systems that are shared over a network
    unless ``allow_network_fs``.
    """
    if "\0" in os.fspath(path):
        raise OpenRefused(Reason.NOT_A_FILE, f"{path!r} is not a path: it contains NUL")
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise OpenRefused(
            Reason.NO_ACCESS, f"{real} cannot be looked at: {error.strerror}"
        ) from error
    if found is not None:
        _check_file(real, found)
    _check_directory(os.path.dirname(real))
    if not allow_network_fs:
        _check_file_system(real)
    return real


def _check_file(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise OpenRefused(Reason.NOT_A_FILE, f"{path} is {kind}, a database is one regular file")
    check_single_name(path, found)
    if 0 < found.st_size < _SMALLEST:
        raise OpenRefused(
            Reason.NOT_OURS,
            f"{path} is not a SQLite database: it has {found.st_size} bytes, a database has none"
            f" or at least {_SMALLEST}",
        )
    for mode, what in ((os.R_OK, "read"), (os.W_OK, "written")):
        if not os.access(path, mode, effective_ids=True):
            raise OpenRefused(
                Reason.NO_ACCESS,
                f"{path} cannot be {what} by uid {os.geteuid()}:"
                f" its mode is {stat.S_IMODE(found.st_mode):04o}, its owner uid {found.st_uid}",
            )


def check_single_name(path: str, found: os.stat_result) -> None:
    """Refuse a file with further hard links: each name would get a log of its own."""
    if found.st_nlink > 1:
        raise OpenRefused(
            Reason.LINKED,
            f"{path} has {found.st_nlink} hard links, a database may have one name only:"
            f" remove the others (find them with: find -inum {found.st_ino})",
        )


def _check_directory(directory: str) -> None:
    if not os.path.isdir(directory):
        raise OpenRefused(Reason.NO_ACCESS, f"directory {directory} does not exist")
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise OpenRefused(
            Reason.NO_ACCESS,
            f"directory {directory} cannot be written by uid {os.geteuid()}:"
            " the database's log and its shared memory lie in it",
        )


def _check_file_system(path: str) -> None:
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            kind = file_system_of(path, mounts.read())
    except OSError:
        return  # not Linux, or no /proc: nothing is known against the path
    if is_network(kind):
        raise OpenRefused(
            Reason.NETWORK,
            f"{path} lies on a network file system ({kind}), where locks do not protect it:"
            " move it to a local disk, or allow it with --allow-network-fs if no other host"
            " opens it",
        )


def is_network(kind: str) -> bool:
    """Whether a file system's type, as the kernel names it, is shared with other hosts."""
    return kind in _NETWORK or kind.removeprefix("fuse.") in _NETWORK


def file_system_of(path: str, mountinfo: str) -> str:
    """The type of the file system that holds an absolute path, ``""`` if none is listed.

    ``mountinfo`` is the text of ``/proc/self/mountinfo``. Of several mounts on one place the
    last is the visible one.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        mount = _unescape(fields[4])
        inside = mount == "/" or path == mount or path.startswith(mount + "/")
        if inside and len(mount) >= best:
            best, kind = len(mount), after.split(" ")[0]
    return kind


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
