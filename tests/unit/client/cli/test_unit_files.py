"""The units as they are written: programs, paths, drop-ins, and what the sources promise."""

import configparser
from pathlib import Path

import pytest

from sessiond_client.cli import unit_files
from sessiond_client.cli.unit_files import MARK, Scope, Wanted, check_name, quoted, render

SOURCES = Path(__file__).parents[4] / "systemd"
SERVICES = [f"{scope.value}/{name}" for scope in Scope
            for name in ("sessiond.service", "sessiond@.service")]  # fmt: skip


def directives(text: str) -> list[tuple[str, str, str]]:
    """``(section, name, value)`` for every line of a unit."""
    found, section = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.append((section, name, value))
    return found


def source(path: str) -> list[tuple[str, str, str]]:
    return directives((SOURCES / path).read_text(encoding="utf-8"))


def test_the_program_stands_in_every_service() -> None:
    for scope in Scope:
        for name in (None, "lab"):
            rendered = render(Wanted(scope, "/opt/sessiond/bin/sessiond", name))
            service = rendered["sessiond.service" if name is None else "sessiond@.service"]
            assert ("Service", "ExecStart", "/opt/sessiond/bin/sessiond serve") in directives(
                service
            )
            assert unit_files.PACKAGED_PROGRAM not in service


def test_every_file_bears_the_mark() -> None:
    wanted = Wanted(Scope.USER, "/x", "lab", "/a.db", "%t/a.sock", "127.0.0.1:9464")
    rendered = render(wanted)
    assert len(rendered) == 5
    for text in [*rendered.values(), *unit_files.system_files().values()]:
        assert text.startswith(MARK)


def test_a_users_database_and_socket_stand_in_the_units() -> None:
    rendered = render(Wanted(Scope.USER, "/x", None, "/home/ann/a.db", "%t/sessiond/ab.sock"))
    assert (
        "Service",
        "Environment",
        "SESSIOND_DATABASE=/home/ann/a.db",
    ) in directives(rendered["sessiond.service"])
    sockets = [value for _, name, value in directives(rendered["sessiond.socket"])
               if name == "ListenStream"]  # fmt: skip
    assert sockets == ["%t/sessiond/ab.sock"]


def test_one_of_several_gets_drop_ins_and_leaves_the_template_alone() -> None:
    plain = render(Wanted(Scope.USER, "/x", "other"))
    rendered = render(Wanted(Scope.USER, "/x", "lab", "/home/ann/a.db", "%t/sessiond/ab.sock"))
    assert {name: rendered[name] for name in plain} == plain
    assert directives(rendered["sessiond@lab.service.d/database.conf"]) == [
        ("Service", "Environment", "SESSIOND_DATABASE=/home/ann/a.db")
    ]
    assert directives(rendered["sessiond@lab.socket.d/socket.conf"]) == [
        ("Socket", "ListenStream", ""),
        ("Socket", "ListenStream", "%t/sessiond/ab.sock"),
    ]


@pytest.mark.parametrize("scope", Scope)
def test_metrics_open_the_network_in_a_drop_in_alone(scope: Scope) -> None:
    rendered = render(Wanted(scope, "/x", metrics="[::1]:9000"))
    drop_in = directives(rendered["sessiond.service.d/metrics.conf"])
    assert ("Service", "Environment", "SESSIOND_METRICS_LISTEN=[::1]:9000") in drop_in
    assert ("Service", "RestrictAddressFamilies", "AF_INET AF_INET6") in drop_in
    families = [value for _, name, value in directives(rendered["sessiond.service"])
                if name == "RestrictAddressFamilies"]  # fmt: skip
    assert families == ["AF_UNIX"]


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/x/sessiond", "/opt/x/sessiond"),
        ("/opt/100%/sessiond", "/opt/100%%/sessiond"),
        ("/opt/my files/x", '"/opt/my files/x"'),
        ('/opt/"a"\\b', '"/opt/\\"a\\"\\\\b"'),
    ],
)
def test_words_reach_the_unit_as_they_are(word: str, written: str) -> None:
    assert quoted(word) == written


@pytest.mark.parametrize("name", ["state", "", "a/b", "../x", ".x", "a b", "a%i", "a@b", "-x"])
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)


@pytest.mark.parametrize("name", ["lab", "my-lab", "a_1.b", "9"])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("path", SERVICES)
def test_what_every_service_promises(path: str) -> None:
    found = {name: value for _, name, value in source(path)}
    assert found["Type"] == "notify"
    assert found["Restart"] == "on-failure"
    assert found["StartLimitIntervalSec"] == "0"
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert {"65", "66", "77", "78"} <= set(found["RestartPreventExitStatus"].split())
    # With it every peer would look like nobody, and nobody may connect.
    assert "PrivateUsers" not in found
    minutes = int(found["WatchdogSec"].removesuffix("min"))
    assert minutes >= 1  # a commit may wait longer for a slow disk than a shorter time allows


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("kind", ["service", "socket"])
def test_a_template_differs_from_its_sibling_by_its_names_only(scope: Scope, kind: str) -> None:
    sibling = source(f"{scope.value}/sessiond.{kind}")
    template = source(f"{scope.value}/sessiond@.{kind}")
    assert len(sibling) == len(template)
    differing = {name for (_, name, value), (_, other, of_template) in zip(sibling, template,
                 strict=True) if (name, value) != (other, of_template)}  # fmt: skip
    names = {"Description", "Environment", "EnvironmentFile", "StateDirectory", "ListenStream"}
    assert differing <= names | {"Requires", "After", "Also"}
    assert all("%i" in value for _, name, value in template if name in names)


@pytest.mark.parametrize("scope", Scope)
def test_sockets_stay_however_often_the_daemon_starts(scope: Scope) -> None:
    parsed = configparser.RawConfigParser()
    parsed.read(SOURCES / scope.value / "sessiond.socket")
    assert parsed["Socket"]["TriggerLimitIntervalSec"] == "0"
    assert parsed["Socket"]["SocketMode"] == ("0660" if scope is Scope.SYSTEM else "0600")
