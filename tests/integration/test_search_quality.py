"""Search on real text: what was said is found by what was said, and nothing else is.

For each language of the dialogues, 200 messages are drawn; words of theirs, and in Chinese,
Japanese and Korean any part of a run, must find the message they come from. Every hit of every
search must contain the query in the eyes of a scan that knows nothing of how search works.

``python -m tests.integration.test_search_quality`` prints the table.
"""

import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.support.corpus import dialogues
from tests.support.search_file import SearchFile, search_file

SAMPLE: Final = 200
LONGEST_PART: Final = 6

_RUN: Final = re.compile("[\u3040-\u30fa\u30fc-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")
_OPERATORS: Final = frozenset({"AND", "OR", "NOT"})


@dataclass
class Quality:
    """What came of the searches in one language."""

    language: str
    messages: int = 0
    searches: int = 0
    found: int = 0
    hits: int = 0
    containing: int = 0


def languages() -> list[str]:
    return sorted({dialogue.language for dialogue in dialogues()})


def measure(language: str, seed: int = 1) -> Quality:
    """Search for parts of 200 messages of ``language`` among all its messages."""
    chooser = random.Random(f"{seed} {language}")
    turns = [turn for d in dialogues() if d.language == language for turn in d.turns]
    texts = list(dict.fromkeys(turns))
    quality = Quality(language, messages=len(texts))
    with search_file() as file:
        ids = file.extend(texts)
        plain = dict(zip(ids, map(_plain, texts), strict=True))
        for place in chooser.sample(range(len(texts)), min(SAMPLE, len(texts))):
            for query in _queries(texts[place], chooser):
                _judge(file, query, ids[place], plain, quality)
    return quality


def table(seed: int = 1) -> Iterator[str]:
    """The results as lines of text."""
    yield f"{'language':20}{'messages':>9}{'searches':>9}{'found':>8}{'hits':>8}{'containing':>12}"
    for language in languages():
        q = measure(language, seed)
        yield (
            f"{q.language:20}{q.messages:9}{q.searches:9}{q.found / q.searches:8.1%}"
            f"{q.hits:8}{q.containing / q.hits:12.1%}"
        )


def _judge(
    file: SearchFile, query: str, message: int, plain: dict[int, str], quality: Quality
) -> None:
    found = file.found(query)
    wanted = _plain(query)
    quality.searches += 1
    quality.found += message in found
    quality.hits += len(found)
    quality.containing += sum(wanted in plain[hit] for hit in found)


def _queries(text: str, chooser: random.Random) -> Iterator[str]:
    """A word of ``text``, and a part of one of its runs."""
    words = [word for word in text.replace('"', " ").replace("*", " ").split() if _is_word(word)]
    if words:
        yield chooser.choice(words)
    runs = _RUN.findall(text)
    if runs:
        run = chooser.choice(runs)
        start = chooser.randrange(len(run))
        yield run[start : start + chooser.randint(1, LONGEST_PART)]


def _is_word(word: str) -> bool:
    return word not in _OPERATORS and any(map(str.isalnum, word))


def _plain(text: str) -> str:
    """``text`` as a reader compares it: small letters, no Latin accents, no punctuation."""
    base, kept = "", []
    for character in unicodedata.normalize("NFD", text).casefold():
        if "\u0300" <= character <= "\u036f" and base.isascii():
            continue
        if unicodedata.category(character) != "Mn":
            base = character
        kept.append(character if unicodedata.category(character)[0] in "LMN" else " ")
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


@pytest.mark.parametrize("language", languages())
def test_what_was_said_is_found_and_nothing_else(language: str) -> None:
    quality = measure(language)
    assert quality.searches >= min(SAMPLE, quality.messages)
    assert quality.found == quality.searches
    assert quality.containing == quality.hits


if __name__ == "__main__":
    for line in table():
        print(line)
