"""The large database: made once in a run, for every measure that needs one."""

import shutil
from pathlib import Path
from typing import Final

from tests.load.measured.site import Site

# Some 700 characters a message, so that a million of them make more than a gigabyte.
PARAGRAPHS: Final = 3
LENGTH: Final = 200
_MESSAGES: Final = 1_000_000
_MESSAGES_QUICK: Final = 200_000


def large(site: Site) -> Path:
    """The folder of a database that nobody serves: 1,000,000 messages, 200,000 if in a hurry."""
    folder = site.folder / "large"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what a measure left that failed half-way
        with site.serving("large") as target:
            site.store(target, _MESSAGES_QUICK if site.quick else _MESSAGES, LENGTH, PARAGRAPHS)
        complete.touch()
    return folder
