"""Text that words cannot find: Chinese, Japanese, Korean, and signs glued to words.

SQLite's default tokenizer takes a whole run of Chinese, Japanese or Korean text as one word, so
that nothing shorter finds it. Messages with such text are therefore indexed a second time, as
:func:`pairs` of characters, and judged by that index alone.

The same index serves messages in which a sign that the tokenizer mistakes for a letter stands
directly beside a word (``thanks`` and a newer emoji, ``500`` and a rouble sign, a word in
bidirectional isolates): in ``messages_fts`` the two are one word, and the plain one is not found.

Both sides, messages and queries, are brought into one form first (:func:`normalise`): NFC;
without the variation selectors that ask for another shape of the same character; with Kangxi
radicals, which text copied from PDF files is full of, as the characters they look like.
"""

import re
import unicodedata
from operator import add
from typing import Final

from sessiond_protocol.search import unicode61

# Ideographs and their iteration marks, kana (half-width too, with the prolonged sound mark),
# bopomofo, Hangul in syllables and in letters, full-width letters and digits, and the planes of
# rare ideographs as a whole, so that new ones need no change. Punctuation is not among them:
# it separates words, here as elsewhere.
CJK: Final = (
    "\u1100-\u11ff\u2f00-\u2fd5\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3131-\u318e"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\uac00-\ud7a3"
    "\ud7b0-\ud7fb\uf900-\ufaff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f"
    "\uffa0-\uffdc\U0001aff0-\U0001afff\U0001b000-\U0001b16f\U00020000-\U0003fffd"
)

# Blocks of currency signs, bidirectional isolates, arrows, emoji, with what is unassigned in them.
_SIGN_BLOCKS: Final = (
    "61c 2065-2069 20ba-20cf 23f4-23ff 2700 2b4d-2b4f 2b5a-2bff 2e3c-2e7f 32ff "
    "1f000-1f0ff 1f10d-1fbef 1fbfa-1fffd"
)


def _young_signs() -> str:
    separators = unicode61.separating()
    blocks = (code for span in unicode61.spans(_SIGN_BLOCKS) for code in span)
    ranges: list[list[int]] = []
    for code in blocks:
        if code in separators:
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


# The signs younger than the tokenizer's tables, which it takes for letters.
SIGNS: Final = _young_signs()

SELECTORS: Final = "\ufe00-\ufe0f\U000e0100-\U000e01ef"

# Ranges beyond U+FFFF slow a class down, and most texts have nothing there: what may be a run or
# a sign is looked for with one such range before anything else is.
_ASTRAL: Final = "\U00010000-\U0010ffff"
_BEYOND: Final = re.compile(f"[{_ASTRAL}]-[{_ASTRAL}]")
_SUSPECT: Final = re.compile(f"[{_BEYOND.sub('', CJK)}{_BEYOND.sub('', SIGNS)}{_ASTRAL}]")
_MISREAD: Final = re.compile(
    f"[{CJK}]|[^\\W_][\u0300-\u0331]*[{SIGNS}]|[{SIGNS}][\u0300-\u0331]*[^\\W_]"
)
_SELECTED: Final = re.compile(f"(?<=[{CJK}])[{SELECTORS}]+")
_SUSPECT_SIGN: Final = re.compile(f"[{_BEYOND.sub('', SIGNS)}{_ASTRAL}]")
_SIGN: Final = re.compile(f"[{SIGNS}]+")
_RUN: Final = re.compile(f"[{CJK}]+")

_RADICALS: Final = {
    code: unicodedata.normalize("NFKC", chr(code)) for code in range(0x2F00, 0x2FD6)
}
_RADICAL: Final = re.compile("[\u2f00-\u2fd5]")


def misread(text: str) -> bool:
    """Whether ``text`` needs the pair index: :func:`pairs` has something to say about it."""
    if text.isascii() or _SUSPECT.search(text) is None:
        return False
    return _MISREAD.search(text) is not None


def normalise(text: str) -> str:
    """``text`` in the one form in which messages and queries are compared."""
    return unified(_SELECTED.sub("", unicodedata.normalize("NFC", text)))


def without_signs(text: str) -> str:
    """``text`` with a space for every sign that would glue to a word."""
    return _SIGN.sub(" ", text) if _SUSPECT_SIGN.search(text) else text


def unified(text: str) -> str:
    """``text`` with Kangxi radicals as the ideographs they look like."""
    if text.isascii() or _RADICAL.search(text) is None:
        return text
    return text.translate(_RADICALS)


def pairs(text: str) -> str | None:
    """``text`` as the pair index holds it, ``None`` where ``messages_fts`` serves it well.

    Every run of characters becomes its overlapping pairs followed by its last character alone
    (``安装器`` becomes ``安装 装器 器``), so that a run of a query is a phrase of pairs and a
    single character a prefix. Other text stays as it is, with a space at each border and in
    place of the signs that would glue.
    """
    if not misread(text):
        return None
    return _RUN.sub(_split, without_signs(normalise(text)))


def spaced(text: str, border: str = " ") -> str:
    """``text`` normalised, with ``border`` around every run and a space for glueing signs."""
    return _RUN.sub(rf"{border}\g<0>{border}", without_signs(normalise(text)))


def phrase(text: str) -> tuple[str, bool]:
    """A query's text as the tokens that :func:`pairs` makes of a message that contains it.

    Returns the text of the phrase and whether its last token stands for everything that starts
    with it. A run at the end may go on in the message, so its last character alone is not asked
    for; if that character is all there is, it is a prefix. Elsewhere a run ends where the
    message's run does.
    """
    if text.isascii():
        return text, False
    text = _trimmed(spaced(text))
    start = len(text)
    while start and is_cjk(text[start - 1]):
        start -= 1
    head, run = _RUN.sub(_split, text[:start]), text[start:]
    if len(run) < 2:
        return head + run, bool(run)
    return head + _joined(run), False


def is_cjk(character: str) -> bool:
    """Whether ``character`` belongs to a run."""
    return _RUN.match(character) is not None


def has_run(text: str) -> bool:
    """Whether ``text`` has Chinese, Japanese or Korean characters."""
    return not text.isascii() and _RUN.search(text) is not None


def _trimmed(text: str) -> str:
    """``text`` without punctuation after its last word: the last run may go on."""
    nothing, folds = unicode61.separating(), unicode61.folds()
    end = len(text)
    while end and (ord(text[end - 1]) in nothing or folds.get(ord(text[end - 1]), 0) is None):
        end -= 1
    return text[:end]


def _joined(run: str) -> str:
    return " ".join(map(add, run, run[1:]))


def _split(run: re.Match[str]) -> str:
    text = run[0]
    return f" {_joined(text)} {text[-1]} " if len(text) > 1 else f" {text} "
