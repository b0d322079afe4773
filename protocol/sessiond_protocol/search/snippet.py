"""Snippets of messages that FTS5 cannot make them for.

FTS5's own would show the pair index's text, or mark half a syllable. These follow the same
rules: about forty words (each character of Chinese, Japanese or Korean text counts as one), the
stretch in which most terms occur, matches between ``>>>`` and ``<<<``, ``...`` where text was
left out.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from sessiond_protocol.search import cjk, unicode61
from sessiond_protocol.search.folding import is_mark, spellings
from sessiond_protocol.search.query import Node, Term, terms

MARK: Final = (">>>", "<<<")
ELLIPSIS: Final = "..."
LENGTH: Final = 40

# How many words are looked at before a longer stretch of the text is. Most hits are early; with
# several terms a better stretch may come later.
_FIRST_LOOK: Final = 250
_FIRST_LOOK_FOR_SEVERAL: Final = 1_000


class _Word(msgspec.Struct, frozen=True):
    """One word, or one character of a run: where it stands and what it is folded to."""

    start: int
    end: int
    folded: str
    run: bool


_Hit: TypeAlias = tuple[int, int, int]  # first word, word after the last, number of the term


class _Wanted(msgspec.Struct, frozen=True):
    """The words of a term, in one of its spellings."""

    number: int
    words: list[_Word]
    prefix: bool


class _Terms:
    """What is to be marked, by the word it begins with."""

    def __init__(self, tree: Node, *, paired: bool) -> None:
        self._by_first: dict[str, list[_Wanted]] = {}
        self._prefixes: list[_Wanted] = []
        self.count = 0
        for number, term in enumerate(terms(tree)):
            self.count += 1
            for form in _forms(term, paired=paired):
                found = list(_words(form, paired=paired))
                if not found:
                    continue
                wanted = _Wanted(number, found, term.prefix)
                if term.prefix and len(found) == 1:
                    self._prefixes.append(wanted)
                else:
                    self._by_first.setdefault(found[0].folded, []).append(wanted)

    def hits(self, found: Sequence[_Word]) -> list[_Hit]:
        """Where terms are in ``found``."""
        return [
            (at, at + len(wanted.words), wanted.number)
            for at, word in enumerate(found)
            for wanted in (*self._by_first.get(word.folded, ()), *self._prefixes)
            if _begins(found, at, wanted)
        ]


def snippet(tree: Node, text: str) -> str:
    """The part of ``text`` that shows best why it matches ``tree``."""
    paired = cjk.misread(text)
    if paired:
        text = unicodedata.normalize("NFC", text)
    wanted = _Terms(tree, paired=paired)
    limit = _FIRST_LOOK if wanted.count == 1 else _FIRST_LOOK_FOR_SEVERAL
    while True:
        found = list(islice(_words(text, paired=paired), limit))
        hits = wanted.hits(found)
        if hits or len(found) < limit:
            return _render(text, found, hits, complete=len(found) < limit)
        limit *= 8


def _forms(term: Term, *, paired: bool) -> Sequence[str]:
    return (cjk.normalise(term.text),) if paired else spellings(term.text)


@cache
def _pattern(*, paired: bool) -> re.Pattern[str]:
    apart = "".join(
        f"\\U{span.start:08x}-\\U{span.stop - 1:08x}" for span in unicode61.separators()
    )
    if not paired:
        return re.compile(f"[^{apart}]+")
    run = f"(?P<run>[{cjk.CJK}])[{cjk.SELECTORS}]*"
    return re.compile(f"{run}|[^{apart}{cjk.CJK}{cjk.SIGNS}]+")


def _words(text: str, *, paired: bool) -> Iterator[_Word]:
    for match in _pattern(paired=paired).finditer(text):
        run = paired and match["run"] is not None
        folded = _folded(match[0], run=run)
        if folded:
            yield _Word(match.start(), match.end(), folded, run)


def _folded(word: str, *, run: bool) -> str:
    if word.isascii():
        return word.lower()
    # Selectors after a character of a run are part of its match, not of what is compared.
    return (cjk.unified(word[0]) if run else word).translate(unicode61.folds())


def _begins(found: Sequence[_Word], at: int, wanted: _Wanted) -> bool:
    if at + len(wanted.words) > len(found):
        return False
    last = len(wanted.words) - 1
    for place, word in enumerate(wanted.words):
        there = found[at + place]
        if there.folded != word.folded and not (
            wanted.prefix and place == last and there.folded.startswith(word.folded)
        ):
            return False
        before = at + place - 1
        if place and _joined(wanted.words[place - 1], word) != _joined(found[before], there):
            return False
    return True


def _joined(before: _Word, after: _Word) -> bool:
    return before.run and after.run and before.end == after.start


def _render(text: str, found: Sequence[_Word], hits: Sequence[_Hit], *, complete: bool) -> str:
    first, last = _window(len(found), hits)
    start = found[first].start if first else 0
    ends = complete and last == len(found)
    end = len(text) if ends else _with_marks(text, found[last - 1].end)
    pieces: list[str] = []
    at = start
    for left, right in _spans(text, found, hits, first, last):
        pieces += text[at:left], MARK[0], text[left:right], MARK[1]
        at = right
    pieces.append(text[at:end])
    before, after = ELLIPSIS if first else "", "" if ends else ELLIPSIS
    return f"{before}{''.join(pieces)}{after}"


def _window(length: int, hits: Sequence[_Hit]) -> tuple[int, int]:
    """First word and word after the last of the stretch in which most terms occur."""
    if not hits or length <= LENGTH:
        return 0, min(length, LENGTH)
    best, start, end = (0, 0), 0, 0
    for place, (first, _, _) in enumerate(hits):
        within = []
        for hit in hits[place:]:
            if hit[0] >= first + LENGTH:
                break
            if hit[1] <= first + LENGTH or hit[0] == first:
                within.append(hit)
        score = len({number for _, _, number in within}), len(within)
        if score > best:
            best, start, end = score, first, max(hit[1] for hit in within)
    # What is left of the length is shared by both sides.
    spare = max(0, LENGTH - (end - start))
    start = max(0, min(start - spare // 2, length - LENGTH))
    return start, max(end, min(length, start + LENGTH))


def _spans(
    text: str, found: Sequence[_Word], hits: Sequence[_Hit], first: int, last: int
) -> list[tuple[int, int]]:
    """Where matches begin and end in ``text``; what overlaps is one."""
    spans: list[tuple[int, int]] = []
    for begin, after, _ in sorted(hits):
        if begin < first or after > last:
            continue
        left, right = found[begin].start, _with_marks(text, found[after - 1].end)
        if spans and left < spans[-1][1]:
            spans[-1] = spans[-1][0], max(right, spans[-1][1])
        else:
            spans.append((left, right))
    return spans


def _with_marks(text: str, end: int) -> int:
    while end < len(text) and is_mark(text[end]):
        end += 1
    return end
