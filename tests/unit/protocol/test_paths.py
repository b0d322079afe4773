"""Where the database and the socket are found."""

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol import paths
from sessiond_protocol.paths import UnsafePlace

ME = os.geteuid()


# --- the database ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        ("/a/x.db", {"SESSIOND_DATABASE": "/b.db", "HERMES_HOME": "/h"}, "/a/x.db"),
        (None, {"SESSIOND_DATABASE": "/b.db", "HERMES_HOME": "/h"}, "/b.db"),
        (None, {"SESSIOND_DATABASE": "", "HERMES_HOME": "/h", "HOME": "/me"}, "/h/state.db"),
        (None, {"HERMES_HOME": "", "HOME": "/me"}, "/me/.hermes/state.db"),
        (None, {"HOME": "/me"}, "/me/.hermes/state.db"),
        (None, {"HERMES_HOME": "~/agents", "HOME": "/me"}, "/me/agents/state.db"),
        ("~/x.db", {"HOME": "/me"}, "/me/x.db"),
        ("~", {"HOME": "/me"}, "/me"),
        ("~root/x.db", {"HOME": "/me"}, "/root/x.db"),
        ("/a//b/./x.db", {}, "/a/b/x.db"),
    ],
)
def test_the_database_is_named_by_the_first_that_speaks(
    argument: str | None, environ: dict[str, str], expected: str
) -> None:
    assert paths.resolve_database(argument, environ) == expected


def test_a_relative_database_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.resolve_database("x.db", {}) == str(tmp_path / "x.db")
    assert paths.resolve_database(Path("d/x.db"), {}) == str(tmp_path / "d/x.db")


def test_dots_behind_a_symbolic_link_lead_where_the_system_leads(tmp_path: Path) -> None:
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/deep")
    (tmp_path / "far/x.db").touch()
    found = paths.resolve_database(tmp_path / "link/../x.db", {})
    assert os.path.samefile(found, tmp_path / "far/x.db")


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
def test_what_is_no_shared_file_is_refused_by_name(path: str) -> None:
    with pytest.raises(ValueError, match="not a file that processes can share"):
        paths.resolve_database(path, {})


def test_a_path_that_sqlite_cannot_open_is_refused() -> None:
    with pytest.raises(ValueError, match="is not UTF-8: SQLite opens no other"):
        paths.resolve_database("/data/a\udcff.db", {})


def test_an_unknown_home_is_an_error_and_no_directory_called_tilde() -> None:
    with pytest.raises(ValueError, match="give an absolute path"):
        paths.resolve_database("~nobody-of-this-name/x.db", {})


def test_the_state_file_lies_beside_the_file_and_not_beside_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/state.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "real/state.db")
    expected = str(tmp_path / "real/state.db.sessiond")
    assert paths.state_file(str(tmp_path / "link.db")) == expected
    assert paths.state_file(str(tmp_path / "real/state.db")) == expected


# --- the socket --------------------------------------------------------------------------------


def test_a_chosen_socket_comes_from_the_argument_then_the_environment() -> None:
    environ = {"SESSIOND_SOCKET": "/run/x.sock", "HOME": "/me"}
    assert paths.chosen_socket("/a.sock", environ) == "/a.sock"
    assert paths.chosen_socket(None, environ) == "/run/x.sock"
    assert paths.chosen_socket(Path("~/s"), environ) == "/me/s"
    assert paths.chosen_socket(None, {"SESSIOND_SOCKET": ""}) is None
    assert paths.chosen_socket(None, {}) is None


def test_a_socket_path_over_the_systems_limit_names_both_sizes() -> None:
    longest = "/" + "x" * 106
    assert paths.checked_socket(longest) == longest
    with pytest.raises(ValueError, match="108 bytes exceeds 107"):
        paths.checked_socket(longest + "x")


def test_a_socket_path_is_measured_in_bytes() -> None:
    with pytest.raises(ValueError, match="109 bytes exceeds 107"):
        paths.checked_socket("/" + "ü" * 54)


def test_a_socket_path_with_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="contains NUL"):
        paths.chosen_socket("/a\0b", {})


def _run_user(tmp_path: Path, mode: int = 0o700) -> Path:
    (tmp_path / "run" / str(ME)).mkdir(parents=True)
    (tmp_path / "run" / str(ME)).chmod(mode)
    return tmp_path / "run"


def test_the_runtime_directory_is_used_whatever_the_environment_says() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        run_user = _run_user(Path(short))
        found = Path(paths.usual_socket(f"{short}/x.db", ME, str(run_user), "/t"))
    assert found.parent == run_user / str(ME) / "sessiond"
    assert found.suffix == ".sock"


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_runtime_directory_that_is_open_to_others_is_not_used(tmp_path: Path, mode: int) -> None:
    run_user = _run_user(tmp_path, mode)
    found = paths.usual_socket(str(tmp_path / "x.db"), ME, str(run_user), "/t")
    assert found.startswith(f"/t/sessiond-{ME}/")


def test_without_a_runtime_directory_the_socket_lies_in_tmp(tmp_path: Path) -> None:
    found = paths.usual_socket("/x.db", 4711, str(tmp_path / "none"), "/t")
    assert found.startswith("/t/sessiond-4711/")


def test_links_to_one_file_lead_to_one_socket_and_other_files_to_others(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    (tmp_path / "y.db").symlink_to(tmp_path / "x.db")
    one, two, three = (
        paths.usual_socket(str(tmp_path / name), ME, "/none", "/t")
        for name in ("x.db", "y.db", "z.db")
    )
    assert one == two
    assert one != three


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300))
def test_the_usual_socket_always_fits(name: str) -> None:
    found = paths.usual_socket(f"/{name}", 2**32 - 2, "/none")
    assert len(os.fsencode(found)) <= paths.MAX_SOCKET_PATH


def test_a_chosen_socket_is_the_only_candidate() -> None:
    assert paths.candidates("/c", "/s", "/u") == ["/c"]


def test_the_stated_socket_comes_before_the_usual_one() -> None:
    assert paths.candidates(None, "/s", "/u") == ["/s", "/u"]
    assert paths.candidates(None, "/u", "/u") == ["/u"]
    assert paths.candidates(None, "", "/u") == ["/u"]


@pytest.mark.parametrize("stated", ["relative", "/" + "x" * 200])
def test_a_stated_socket_that_cannot_be_one_is_not_tried(stated: str) -> None:
    assert paths.candidates(None, stated, "/u") == ["/u"]


# --- directories -------------------------------------------------------------------------------


def _status(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "complaint"),
    [
        (stat.S_IFLNK | 0o777, 7, "is a symbolic link"),
        (stat.S_IFREG | 0o600, 7, "is not a directory"),
        (stat.S_IFDIR | 0o700, 8, "belongs to uid 8, not to uid 7"),
        (stat.S_IFDIR | 0o701, 7, "has mode 0701, 0700 is expected"),
        (stat.S_IFDIR | 0o770, 7, "has mode 0770, 0700 is expected"),
        (stat.S_IFDIR | 0o1777, 7, "has mode 1777, 0700 is expected"),
    ],
)
def test_a_hostile_directory_is_refused_with_what_is_wrong(
    mode: int, uid: int, complaint: str
) -> None:
    with pytest.raises(UnsafePlace, match=complaint):
        paths.judge_private("/d", _status(mode, uid), 7)


@pytest.mark.parametrize(
    ("mode", "fits"), [(0o700, True), (0o750, True), (0o770, False), (0o755, False)]
)
def test_a_sockets_group_may_enter_its_directory_but_not_write(mode: int, fits: bool) -> None:
    found = _status(stat.S_IFDIR | mode, 7)
    if fits:
        paths.judge_private("/d", found, 7, for_group=True)
    else:
        with pytest.raises(UnsafePlace, match="0750 is expected"):
            paths.judge_private("/d", found, 7, for_group=True)


def test_a_directory_is_made_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    paths.make_private(str(folder), ME)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    paths.make_private(str(folder), ME)


def test_a_directory_for_a_group_lets_it_in(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    paths.make_private(str(folder), ME, os.getegid())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_an_existing_open_directory_is_refused_and_not_mended(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UnsafePlace, match="0777"):
        paths.make_private(str(folder), ME)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePlace, match="symbolic link"):
        paths.make_private(str(tmp_path / "s"), ME)


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsafePlace, match="none does not exist"):
        paths.make_private(str(tmp_path / "none/s"), ME)
