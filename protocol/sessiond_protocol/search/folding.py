"""Texts as the two indexes read them, as plain strings in which a term is a substring.

:func:`words` holds what the tokenizer keeps: folded words, one space between them and at both
ends. :func:`letters` holds also what it loses: vowel signs and other marks in their places.
Both come in two readings. The plain one is that of ``messages_fts``; the ``paired`` one is that
of the pair index, where runs of Chinese, Japanese or Korean text stand apart from other words.
"""

import re
import unicodedata
from functools import cache
from typing import Final

from sessiond_protocol.search import cjk, unicode61

# Around what separates two words in `letters`. Control characters of a text never reach it.
OPEN: Final = "\x01"
CLOSE: Final = "\x02"

# Characters that change nothing in what is written: shape selectors, joiners, soft hyphens.
_IGNORED: Final = (
    0xAD, 0x34F, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F,
    *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF,
    *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0),
)  # fmt: skip

_BORDER: Final = "\u2060"
_SPACES: Final = re.compile(" {2,}")


def words(text: str, *, paired: bool) -> str:
    """The words of ``text``, folded, with one space between them and at both ends.

    ``" a b "`` is in it exactly when the phrase ``a b`` is found by the index. In the
    ``paired`` reading each run of characters is a word, of which any part may be looked for.
    """
    if text.isascii():
        return f" {' '.join(text.lower().translate(_ascii_words()).split())} "
    if paired:
        text = cjk.spaced(text)
    return f" {' '.join(text.translate(_words()).split())} "


def letters(text: str, *, paired: bool) -> str:
    """The words of ``text`` with what stands between them, marks included.

    Each gap is between :data:`OPEN` and :data:`CLOSE`: its marks as they are, everything else
    as one space, what is ignored as nothing. A gap stands at both ends.
    """
    if paired:
        text = cjk.spaced(text, _BORDER)
    text = f" {text} ".translate(_letters()).replace(CLOSE + OPEN, "")
    return _SPACES.sub(" ", text)


def spellings(text: str) -> tuple[str, ...]:
    """The canonically equivalent forms of ``text`` that ``messages_fts`` reads differently.

    The first is ``text`` itself. A message may hold any of them: composed (NFC), decomposed
    (NFD, as in names of macOS files), or with the precomposed letters of Indic scripts that NFC
    takes apart.
    """
    if text.isascii():
        return (text,)
    composed = unicodedata.normalize("NFC", text)
    by_reading: dict[str, str] = {}
    for form in (text, composed, unicodedata.normalize("NFD", text), _precomposed(composed)):
        by_reading.setdefault(words(form, paired=False), form)
    return tuple(by_reading.values())


def has_marks(text: str) -> bool:
    """Whether ``text`` has characters that the index drops although they say something."""
    return not text.isascii() and not _marks().isdisjoint(map(ord, text))


def is_mark(character: str) -> bool:
    """Whether ``character`` is one of those: a vowel sign, a tone mark."""
    return ord(character) in _marks()


def _precomposed(text: str) -> str:
    for taken_apart, letter in _exclusions().items():
        text = text.replace(taken_apart, letter)
    return text


@cache
def _exclusions() -> dict[str, str]:
    # Letters with a nukta: Devanagari, Bengali, Gurmukhi, Oriya.
    letters = (chr(code) for code in range(0x900, 0xE00))
    return {
        unicodedata.normalize("NFD", letter): letter
        for letter in letters
        if unicodedata.category(letter) == "Lo" and unicodedata.normalize("NFC", letter) != letter
    }


@cache
def _ascii_words() -> dict[int, str]:
    return {code: " " for code in unicode61.separating() if code < 128}


@cache
def _words() -> dict[int, str | int | None]:
    table: dict[int, str | int | None] = dict(unicode61.folds())
    table.update((code, " ") for code in unicode61.separating())
    return table


@cache
def _marks() -> frozenset[int]:
    # All of these were assigned long before Unicode 6.1; newer versions agree about them.
    return frozenset(
        code for code in unicode61.separating() if unicodedata.category(chr(code))[0] in "LMN"
    ).difference(_IGNORED)


@cache
def _letters() -> dict[int, str | int | None]:
    table = _words()
    space, nothing = f"{OPEN} {CLOSE}", OPEN + CLOSE
    gaps = dict.fromkeys(unicode61.separating(), space)
    gaps.update((code, f"{OPEN}{chr(code)}{CLOSE}") for code in _marks())
    gaps.update((code, nothing) for code in _IGNORED)
    return {**table, **gaps}
