"""From a tree to FTS5 expressions, one for each index.

An expression finds at least what the tree means. Where the index knows less than the query says
(vowel signs, several spellings, more terms than an expression should hold) it finds more, and is
not ``exact``: its hits have to be judged by their text. To keep that promise under ``NOT``, an
excluded part that is not exact is left out.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from sessiond_protocol.search import cjk
from sessiond_protocol.search.folding import has_marks, spellings, words
from sessiond_protocol.search.query import All, Either, Node, Term, Without

# Beyond these bounds further terms narrow the search hardly, but each costs an index cursor.
MAX_TERMS: Final = 64
MAX_PHRASE_WORDS: Final = 32


class Expression(msgspec.Struct, frozen=True):
    """What to hand to ``MATCH``; ``text`` is ``None`` when the index cannot narrow the search."""

    text: str | None
    exact: bool


_NOTHING_KNOWN: Final = Expression(None, exact=False)


def words_expression(tree: Node) -> Expression:
    """The expression for ``messages_fts``."""
    return _Compilation(_words_term).node(tree)


def pairs_expression(tree: Node) -> Expression:
    """The expression for ``sessiond_cjk_fts``, whose text is made by :func:`cjk.pairs`."""
    return _Compilation(_pairs_term).node(tree)


def _quoted(tokens: list[str], *, prefix: bool) -> str:
    # Folded words hold no quotation marks, no NUL, nothing that needs escaping.
    return f'"{" ".join(tokens)}"' + ("*" if prefix else "")


def _words_term(term: Term) -> Expression:
    exact, phrases = True, []
    # Messages with runs of characters are not this index's to judge.
    forms = (term.text,) if cjk.has_run(term.text) else spellings(term.text)
    for form in forms:
        tokens = words(form, paired=False).split()
        if not tokens:
            return _NOTHING_KNOWN
        exact = exact and not has_marks(form) and len(tokens) <= MAX_PHRASE_WORDS
        prefix = term.prefix and len(tokens) <= MAX_PHRASE_WORDS
        phrases.append(_quoted(tokens[:MAX_PHRASE_WORDS], prefix=prefix))
    text = phrases[0] if len(phrases) == 1 else f"({' OR '.join(phrases)})"
    return Expression(text, exact and len(forms) == 1)


def _pairs_term(term: Term) -> Expression:
    text, single = cjk.phrase(term.text)
    tokens = words(text, paired=False).split()
    if not tokens:
        return _NOTHING_KNOWN
    complete = len(tokens) <= MAX_PHRASE_WORDS
    prefix = single or (term.prefix and not cjk.is_cjk(tokens[-1][-1]))
    phrase = _quoted(tokens[:MAX_PHRASE_WORDS], prefix=prefix and complete)
    return Expression(phrase, complete and not has_marks(term.text))


class _Compilation:
    """One walk over a tree; counts the terms that the expression has taken."""

    def __init__(self, term: Callable[[Term], Expression]) -> None:
        self._term = term
        self._left = MAX_TERMS

    def node(self, node: Node) -> Expression:
        if isinstance(node, Term):
            if not self._left:
                return _NOTHING_KNOWN
            self._left -= 1
            return self._term(node)
        if isinstance(node, Without):
            return self._without(node)
        parts = [self.node(part) for part in node.parts]
        exact = all(part.exact for part in parts)
        known = [part.text for part in parts if part.text is not None]
        if not known or (isinstance(node, Either) and len(known) < len(parts)):
            return _NOTHING_KNOWN
        operator = " AND " if isinstance(node, All) else " OR "
        return Expression(f"({operator.join(known)})", exact)

    def _without(self, node: Without) -> Expression:
        base = self.node(node.base)
        excluded = self.node(node.excluded)
        if base.text is None:
            return _NOTHING_KNOWN
        if excluded.text is None or not excluded.exact:
            return Expression(base.text, exact=False)
        return Expression(f"({base.text} NOT {excluded.text})", base.exact)
