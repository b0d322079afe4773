"""Text without power over the terminal, tables that fit, JSON for every stream."""

import io
import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sessiond_client.cli import output
from sessiond_client.cli.output import Column

COLUMNS = (
    Column("ID", most=36),
    Column("TITLE", flexible=True),
    Column("SOURCE", most=10),
    Column("MESSAGES", right=True),
)


@pytest.fixture(autouse=True)
def _fresh_console() -> Iterator[None]:
    """Each test's environment makes its own console."""
    output.console.cache_clear()
    yield
    output.console.cache_clear()


@given(st.text())
def test_what_is_printed_holds_no_control_character(text: str) -> None:
    shown = output.printable(text)
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown) is None
    assert "\n" not in output.one_line(text)


def test_an_escape_sequence_becomes_visible() -> None:
    assert output.printable("a\x1b[31mb\x7f\x9b\tc\r\nd") == "a␛[31mb␡\\x9b\tc\nd"


def test_what_turns_the_direction_or_ends_a_line_becomes_visible() -> None:
    assert output.printable("a\u202eb\u2066c\u2028d") == "a\\u202eb\\u2066c\\u2028d"
    assert output.printable("👩\u200d👧 \u200fשלום") == "👩\u200d👧 \u200fשלום"


def printed(capsys: pytest.CaptureFixture[str], *rows: tuple[str, ...]) -> list[str]:
    output.print_table(COLUMNS, rows)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "title",
    ["a", "a title that is far too long for one line of a terminal " * 3, "会話の題名" * 30],
)
def test_a_table_fits_and_keeps_the_important_columns(
    title: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, ("20251121_062511_a1b2c3d4", title, "telegram", "1,234"))
    assert len(lines) == 2
    assert all(cell_len(line) <= 80 for line in lines)
    assert "20251121_062511_a1b2c3d4" in lines[1]
    assert "telegram" in lines[1]
    assert lines[1].endswith("1,234")


def test_a_narrow_terminal_leaves_out_columns_from_the_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    head, row = printed(capsys, ("20251121_062511_a1b2c3d4", "a long title", "telegram", "7"))
    assert head.split() == ["ID", "TITLE"]
    assert row.split("  ") == ["20251121_062511_a1b2c3d4", "a long title"]


def test_a_long_id_leaves_room_for_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, ("x" * 200, "a title", "telegram", "7"))
    assert cell_len(lines[1]) <= 80
    assert "a title" in lines[1]


def test_nothing_is_cut_where_no_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = printed(capsys, ("y" * 200, "t" * 300, "s" * 20, "7"))
    assert "y" * 200 in lines[1]
    assert "t" * 300 in lines[1]


def test_square_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert "[bold]x[/bold] :smile:" in printed(capsys, ("[bold]x[/bold] :smile:", "", "", ""))[1]


def test_facts_leave_no_blanks_at_the_ends(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_facts([("a", "1"), ("longer", "2")])
    assert capsys.readouterr().out == "a       1\nlonger  2\n"


def test_matches_stay_marked_where_nothing_can_be_bold() -> None:
    assert output.marked("one\n>>>two<<< three").plain == "one >>>two<<< three"


def test_matches_are_bold_where_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    shown = output.marked("one >>>two<<< three >>>four<<<")
    assert shown.plain == "one two three four"
    assert [shown.plain[span.start : span.end] for span in shown.spans if span.style] == [
        "two",
        "four",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "latin-1", "ascii"])
def test_json_fits_into_the_streams_encoding(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    value = {"text": "köln 会話 \x1b", "blob": b"\x00\xff"}
    text = output.json_text(value, stream)
    assert json.loads(text.encode(encoding)) == {"text": "köln 会話 \x1b", "blob": "00ff"}
    assert ("会話" in text) == encoding.lower().startswith("utf")
