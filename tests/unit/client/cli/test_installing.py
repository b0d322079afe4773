"""Installing and uninstalling below a scratch root: what is said is what is done."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from sessiond_client.cli.commands import install, uninstall
from sessiond_client.cli.exits import Refused
from sessiond_client.cli.installing import Execute
from sessiond_client.cli.program import run
from sessiond_client.cli.unit_files import MARK, Scope, Wanted

SYSTEM = ["--system", "--program", "/opt/sessiond/bin/sessiond"]


@pytest.fixture(autouse=True)
def _a_home_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    for name in ("XDG_CONFIG_HOME", "SESSIOND_DATABASE", "SESSIOND_SOCKET", "HERMES_HOME"):
        monkeypatch.delenv(name, raising=False)


def everything(root: Path) -> dict[str, str]:
    """Every file below a folder with its text."""
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*")
            if path.is_file()}  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], verb: str) -> set[str]:
    lines = capsys.readouterr().out.splitlines()
    return {line.removeprefix(f"{verb} ") for line in lines if line.startswith(f"{verb} ")}


@pytest.mark.parametrize(
    "scope",
    [
        ["--user"],
        ["--user", "--name", "lab"],
        SYSTEM,
        [*SYSTEM, "--name", "a", "--metrics", "127.0.0.1:1"],
    ],
)
def test_what_is_written_is_removed_again(
    scope: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["install", *scope, "--root", str(tmp_path)]) == 0
    written = {str(tmp_path / path) for path in everything(tmp_path)}
    assert written
    assert said(capsys, "write") == written
    assert run(["uninstall", scope[0], "--root", str(tmp_path)]) == 0
    assert everything(tmp_path) == {}
    assert written <= said(capsys, "remove")


@pytest.mark.parametrize("scope", [["--user"], SYSTEM])
def test_a_dry_run_says_the_same_and_changes_nothing(
    scope: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["install", *scope, "--root", str(tmp_path), "--dry-run"]) == 0
    would = said(capsys, "would write")
    assert everything(tmp_path) == {}
    run(["install", *scope, "--root", str(tmp_path)])
    assert said(capsys, "write") == would
    before = everything(tmp_path)
    assert run(["uninstall", scope[0], "--root", str(tmp_path), "--dry-run"]) == 0
    assert said(capsys, "would remove") == would
    assert everything(tmp_path) == before


def test_a_second_time_leaves_what_is_the_same_and_rewrites_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["install", *SYSTEM, "--root", str(tmp_path)])
    capsys.readouterr()
    run(["install", "--system", "--program", "/usr/bin/sessiond", "--root", str(tmp_path)])
    service = tmp_path / "etc/systemd/system/sessiond.service"
    output = capsys.readouterr().out
    assert f"rewrite {service}\n" in output
    assert f"leave {service.with_suffix('.socket')}\n" in output
    assert "ExecStart=/usr/bin/sessiond serve" in service.read_text()


def test_somebody_elses_unit_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = tmp_path / "etc/systemd/system/sessiond.service"
    service.parent.mkdir(parents=True)
    service.write_text("[Service]\n")
    assert run(["install", *SYSTEM, "--root", str(tmp_path)]) == os.EX_CANTCREAT
    assert str(service) in capsys.readouterr().err
    assert everything(tmp_path) == {"etc/systemd/system/sessiond.service": "[Service]\n"}
    assert run(["uninstall", "--system", "--root", str(tmp_path)]) == 0
    assert "nothing of sessionctl install" in capsys.readouterr().out
    assert service.exists()
    assert run(["install", *SYSTEM, "--root", str(tmp_path), "--force"]) == 0
    assert service.read_text().startswith(MARK)


def test_drop_ins_of_the_administrators_stay(tmp_path: Path) -> None:
    run(["install", *SYSTEM, "--metrics", "127.0.0.1:9464", "--root", str(tmp_path)])
    own = tmp_path / "etc/systemd/system/sessiond.service.d/mine.conf"
    own.write_text("[Service]\nNice=5\n")
    run(["uninstall", "--system", "--root", str(tmp_path)])
    assert set(everything(tmp_path)) == {"etc/systemd/system/sessiond.service.d/mine.conf"}


def test_one_of_several_is_removed_alone(tmp_path: Path) -> None:
    for name in ("lab", "play"):
        run(["install", "--user", "--name", name, "--root", str(tmp_path)])
    wants = tmp_path / "home/ann/.config/systemd/user/sockets.target.wants"
    wants.mkdir()
    for name in ("lab", "play"):
        (wants / f"sessiond@{name}.socket").symlink_to("../sessiond@.socket")
    run(["uninstall", "--user", "--name", "lab", "--root", str(tmp_path)])
    left = {Path(path).parent.name for path in everything(tmp_path)}
    assert "sessiond@lab.service.d" not in left
    assert "sessiond@play.service.d" in left
    assert [path.name for path in wants.iterdir()] == ["sessiond@play.socket"]


def test_a_profiles_database_is_the_usual_one(tmp_path: Path) -> None:
    run(["install", "--user", "--name", "lab", "--root", str(tmp_path)])
    text = tmp_path / "home/ann/.config/systemd/user/sessiond@lab.service.d/database.conf"
    assert "SESSIOND_DATABASE=/home/ann/.hermes/profiles/lab/state.db" in text.read_text()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], os.EX_USAGE),
        (["--user", "--name", "a/b"], os.EX_USAGE),
        ([*SYSTEM, "--database", "/srv/a.db"], os.EX_USAGE),
        ([*SYSTEM, "--metrics", "0.0.0.0:80"], os.EX_USAGE),
        (["--user", "--metrics", "9464"], os.EX_USAGE),
    ],
)
def test_what_the_units_cannot_do_is_refused(words: list[str], status: int, tmp_path: Path) -> None:
    assert run(["install", *words, "--root", str(tmp_path)]) == status
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("program", ["/root/.local/bin/sessiond", "/home/ann/v/bin/sessiond",
                                     "/tmp/x/sessiond"])  # fmt: skip
def test_a_program_that_the_system_unit_hides_is_refused(program: str) -> None:
    with pytest.raises(Refused, match="cannot see"):
        install.check_visible(program)


def test_what_systemd_is_told() -> None:
    def words(steps: Sequence[object]) -> list[str]:
        return [" ".join(each.words) for each in steps if isinstance(each, Execute)]

    user = Wanted(Scope.USER, "/x")
    enable = "systemctl --user enable --now sessiond.socket"
    reload = "systemctl --user daemon-reload"
    told, later = install.orders(user, runs=True, now=True)
    assert (words(told), words(later)) == ([reload, enable], [])
    told, later = install.orders(user, runs=True, now=False)
    assert (words(told), words(later)) == ([reload], [enable])
    told, later = install.orders(user, runs=False, now=True)
    assert (words(told), words(later)) == ([], [reload, enable])
    system = Wanted(Scope.SYSTEM, "/x", "lab")
    told, later = install.orders(system, runs=True, now=True)
    assert words(told) == [
        "systemd-sysusers /etc/sysusers.d/sessiond.conf",
        "systemd-tmpfiles --create /etc/tmpfiles.d/sessiond.conf",
        "systemctl daemon-reload",
        "systemctl enable --now sessiond@lab.socket",
    ]


def test_stopping_comes_from_the_socket_to_the_service(tmp_path: Path) -> None:
    steps = [str(step) for step in uninstall.stops(Scope.USER, str(tmp_path), "lab")]
    assert steps == ["run systemctl --user stop sessiond@lab.socket sessiond@lab.service"]
    # A unit that is not there cannot be stopped: systemctl would fail.
    steps = [str(step) for step in uninstall.stops(Scope.SYSTEM, str(tmp_path), None)]
    assert steps == ["run systemctl stop sessiond@*.socket sessiond@*.service"]


def test_a_step_that_fails_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="no-such-program"):
        install.carry_out([Execute(("no-such-program", "x"))], dry_run=False)
    install.carry_out([Execute(("no-such-program", "x"))], dry_run=True)
    assert "would run no-such-program x\n" in capsys.readouterr().out
