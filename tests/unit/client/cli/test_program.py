"""The command itself: what is suggested, how it ends, what every command has."""

import os
import subprocess
import sys

import click
import pytest

from sessiond_client.cli import program
from sessiond_client.cli.program import COMMANDS, run, suggestion


def command(name: str) -> click.Command:
    found = program.program.get_command(click.Context(program.program), name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sttaus", "status"),
        ("lst", "list"),
        ("Show", "show"),
        ("serach", "search"),
        ("ls", "list"),
        ("grep", "search"),
        ("rm", "delete"),
        ("exprot", "export"),
        ("imprt", "import"),
    ],
)
def test_a_mistyped_command_suggests_the_right_one(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([typed]) == os.EX_USAGE
    assert capsys.readouterr().err == (
        f"sessionctl: no such command {typed!r}, did you mean {meant!r}?; try 'sessionctl --help'\n"
    )


def test_two_are_suggested_when_both_are_close() -> None:
    assert suggestion("stauts") == ", did you mean 'stats' or 'status'?"


@pytest.mark.parametrize("typed", ["start", "serve", "run"])
def test_what_starts_a_daemon_is_named(typed: str) -> None:
    assert suggestion(typed).startswith(", did you mean 'sessiond serve'?")


def test_the_list_of_commands_cuts_no_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    described = capsys.readouterr().out.split("Commands:\n")[1]
    assert len(described.splitlines()) == len(COMMANDS)
    assert "..." not in described


def test_an_option_without_its_value_leads_to_the_right_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["export", "--transcripts"]) == os.EX_USAGE
    assert capsys.readouterr().err.endswith("; try 'sessionctl export --help'\n")


@pytest.mark.parametrize("name", ["install", "uninstall"])
def test_two_service_managers_at_once_are_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--user", "--system", "--dry-run"]) == os.EX_USAGE
    assert "say --user or --system, not both" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("import",), ("restore",), ("bench", "--text"), ("bench", "--folder")]
)
def test_a_file_that_is_not_there_is_no_mistake_of_the_command_line(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "/nowhere/x"]) == os.EX_NOINPUT
    assert capsys.readouterr().err == "sessionctl: /nowhere/x: No such file or directory\n"


def test_a_title_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rename", "x", "bad\udcff"]) == os.EX_DATAERR
    assert "is not text in this locale's encoding" in capsys.readouterr().err


def test_nothing_is_suggested_for_what_is_like_nothing() -> None:
    assert suggestion("qqqq") == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_mistyped_option_suggests_the_right_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [each for each in command(name).params if isinstance(each, click.Option)]
    right = max((flag for option in options for flag in option.opts), key=len)
    mistyped = right[:-2] + right[-1] + right[-2]
    assert run([name, mistyped]) == os.EX_USAGE
    said = capsys.readouterr().err
    assert said.startswith(f"sessionctl: no such option {mistyped!r}, did you mean {right!r}")
    assert said.endswith(f"; try 'sessionctl {name} --help'\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "  Examples:\n" in text
    assert f"sessionctl {name}" in text.split("Examples:")[1].split("Options:")[0]
    assert max(map(len, text.splitlines())) <= 80


def test_options_of_the_place_stand_before_or_after_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = run(["--database", "/nowhere/a", "list"]), capsys.readouterr().err
    after = run(["--database", "/nowhere/b", "list", "--database", "/nowhere/a"])
    assert before == (after, capsys.readouterr().err)
    assert before[0] == os.EX_NOINPUT
    assert before[1].startswith("sessionctl: there is no database /nowhere/a; ")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], os.EX_USAGE),
        (["--version"], 0),
        (["list", "--limit", "-1"], os.EX_USAGE),
        (["list", "--limit", "x"], os.EX_USAGE),
        (["show"], os.EX_USAGE),
        (["show", "a", "--raw", "--json"], os.EX_USAGE),
        (["show", "a", "--last", "1", "--limit", "1"], os.EX_USAGE),
        (["list", "--database", ":memory:"], os.EX_USAGE),
        (["list", "--socket", "/" + "x" * 200], os.EX_USAGE),
        (["list", "--timeout", "0"], os.EX_USAGE),
        (["list", "--database", "/"], os.EX_NOINPUT),
        (["import", "/nowhere/x"], os.EX_NOINPUT),
        (["export", "--source", "a", "b"], os.EX_USAGE),
        (["rename", "a"], os.EX_USAGE),
        (["end", "a", "--reopen", "--reason", "x"], os.EX_USAGE),
        (["rename", "a", "b", "--clear"], os.EX_USAGE),
        (["rename", "a", " "], os.EX_DATAERR),
        (["rename", "a", "x" * 101], os.EX_DATAERR),
        (["prune", "--older-than", "soon"], os.EX_USAGE),
    ],
)
def test_exit_statuses_without_a_daemon(words: list[str], status: int) -> None:
    assert run(words) == status


def test_an_unexpected_error_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("no\nreason")

    monkeypatch.setattr(command("list"), "callback", broken)
    assert run(["list"]) == os.EX_SOFTWARE
    said = capsys.readouterr().err
    assert said == "sessionctl: RuntimeError: no reason (run with --debug for the traceback)\n"
    assert run(["list", "--debug"]) == os.EX_SOFTWARE
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_no_error_of_the_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command("list"), "callback", interrupted)
    assert run(["list"]) == 130
    assert capsys.readouterr().err.strip() == "sessionctl: interrupted"


def test_help_waits_for_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sessiond_client.cli.program import run\n"
        "run(['--help'])\n"
        "heavy = {'rich', 'asyncio', 'apsw', 'uvloop', 'sessiond', 'prometheus_client'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
