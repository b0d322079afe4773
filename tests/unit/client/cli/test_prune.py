"""Ages, and what is asked before a prune."""

import click
import pytest

from sessiond_client.cli import units
from sessiond_client.cli.commands.prune import Age, question

DAY = 86_400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90 * DAY),
        ("90d", 90 * DAY),
        ("12h", DAY / 2),
        ("6 w", 42 * DAY),
        ("1.5y", 547.5 * DAY),
    ],
)
def test_ages(text: str, seconds: float) -> None:
    assert Age().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1", "3x", "1e3", "nan", "90 days"])
def test_what_is_no_age_names_what_is_allowed(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not an age; allowed are 90, 90d, 12h"):
        Age().convert(text, None, None)


def test_the_question_says_how_many_of_what_and_from_when() -> None:
    then = units.local_time(0)
    assert question(2, 0, "cron") == (
        f"Delete 2 ended sessions of source 'cron' from before {then} for ever?"
    )
    assert question(1, 0, None) == f"Delete 1 ended session from before {then} for ever?"
