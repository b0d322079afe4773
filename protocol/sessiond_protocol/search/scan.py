"""A tree judged on a text, without an index: complete, and slower.

It decides what a hit is. Where an index cannot know (vowel signs, several spellings, a row of
the pair index that is out of date) its candidates are judged here; where there is no index that
can be trusted, all messages are. On everything an index knows exactly, both agree.

A term matches whole words in a row, and characters of Chinese, Japanese or Korean text anywhere
in a run. What separates words does not matter, except for the marks (vowel signs, tone marks)
that belong to what is written: those must stand in the text as in the term.
"""

import unicodedata
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

import msgspec

from sessiond_protocol.search import cjk
from sessiond_protocol.search.folding import CLOSE, OPEN, has_marks, letters, spellings, words
from sessiond_protocol.search.query import Either, Node, Term, Without


class _Reading:
    """A text as the indexes read it; each form is made when first asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.ascii = text.isascii()
        self.paired = cjk.misread(text)

    @cached_property
    def words(self) -> str:
        return words(self._text, paired=self.paired)

    @cached_property
    def lowered(self) -> str:
        return self._text.lower()

    @cached_property
    def letters(self) -> str:
        return letters(self._text, paired=self.paired)

    @cached_property
    def composed(self) -> "_Reading":
        text = unicodedata.normalize("NFC", self._text)
        return self if text == self._text else _Reading(text)


_Judge: TypeAlias = Callable[[_Reading], bool]


class Scan:
    """A tree made ready to judge many texts, once the first is judged: most searches judge none."""

    def __init__(self, tree: Node) -> None:
        self._tree = tree

    @cached_property
    def _judge(self) -> _Judge:
        return _judge(self._tree)

    def matches(self, text: str) -> bool:
        """Whether a message with this ``content`` is a hit."""
        return self._judge(_Reading(text))


def _judge(node: Node) -> _Judge:
    if isinstance(node, Term):
        return _term(node)
    if isinstance(node, Without):
        base, excluded = _judge(node.base), _judge(node.excluded)
        return lambda reading: base(reading) and not excluded(reading)
    parts = [_judge(part) for part in node.parts]
    if isinstance(node, Either):
        return lambda reading: any(part(reading) for part in parts)
    return lambda reading: all(part(reading) for part in parts)


def _term(term: Term) -> _Judge:
    paired = _needle(cjk.normalise(term.text), term.prefix, paired=True)
    plain = _needle(term.text, term.prefix, paired=False)
    composed = None
    if len(spellings(term.text)) > 1:
        text = unicodedata.normalize("NFC", term.text)
        composed = _needle(text, term.prefix, paired=False)

    def judge(reading: _Reading) -> bool:
        if reading.paired:
            return paired.within(reading)
        return plain.within(reading) or (composed is not None and composed.within(reading.composed))

    return judge


class _Needle(msgspec.Struct, frozen=True):
    """A term as a substring of one form of a text; ``first`` is its first word."""

    text: str
    marked: bool
    first: str = ""

    def within(self, reading: _Reading) -> bool:
        # Most messages are ASCII and no hits; for them a look at the first word is enough.
        if reading.ascii and not (self.text.isascii() and self.first in reading.lowered):
            return False
        return self.text in (reading.letters if self.marked else reading.words)


# Neither form of a text holds this character.
_NOWHERE = _Needle("\0", marked=False)


def _needle(text: str, prefix: bool, *, paired: bool) -> _Needle:
    if has_marks(text):
        return _Needle(_marked(letters(text, paired=paired), prefix, paired=paired), marked=True)
    core = words(text, paired=paired).strip()
    if not core:
        return _NOWHERE
    starts_anywhere = paired and cjk.is_cjk(core[0])
    ends_anywhere = prefix or (paired and cjk.is_cjk(core[-1]))
    before, after = "" if starts_anywhere else " ", "" if ends_anywhere else " "
    return _Needle(f"{before}{core}{after}", marked=False, first=core.split()[0])


def _marked(text: str, prefix: bool, *, paired: bool) -> str:
    """``letters`` of a term without what may be different around it.

    Of the gap at either end only the marks next to the word count, so that more marks may
    follow in the text.
    """
    head, _, rest = text.removeprefix(OPEN).partition(CLOSE)
    if not rest:
        return head.strip(" ")
    body, _, tail = rest.removesuffix(CLOSE).rpartition(OPEN)
    if head.strip(" "):
        before = head.lstrip(" ") + CLOSE
    else:
        before = "" if paired and cjk.is_cjk(body[0]) else CLOSE
    if tail.strip(" "):
        after = OPEN + tail.rstrip(" ")
    else:
        after = "" if prefix or (paired and cjk.is_cjk(body[-1])) else OPEN
    return before + body + after
