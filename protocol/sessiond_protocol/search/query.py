"""What users type, as a tree of terms. No input raises, nothing is silently read as syntax.

Words must all match; ``"exact phrase"``; ``OR``, ``AND``, ``NOT`` in capitals; ``prefix*``.
Words side by side bind first, then ``NOT``, then ``AND``, then ``OR``.

Where that leaves room, a query is read so:

* ``AND NOT`` means ``NOT``; of several operators in a row the last counts; an operator at
  either end is dropped, so a leading ``NOT`` is dropped too.
* A quotation mark without a partner is an ordinary character. A quoted part ends a word and
  begins a new one, with or without spaces around it. Operators in quotes are words.
* A ``*`` that follows a word or a phrase directly makes its last word a prefix; anywhere else it
  is an ordinary character.
* Control characters are spaces; a lone surrogate is U+FFFD.
* A term with neither letter nor digit is dropped before the operators are read. Marks and
  private-use characters are neither; Kangxi radicals count as the ideographs they look like.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from sessiond_protocol.content import clean_text
from sessiond_protocol.search.cjk import is_cjk, unified
from sessiond_protocol.search.folding import words


class Term(msgspec.Struct, frozen=True):
    """A word or a phrase: the words of ``text`` in this order, next to each other.

    ``prefix``: the last of them may go on.
    """

    text: str
    prefix: bool = False


class All(msgspec.Struct, frozen=True):
    """Every part must match."""

    parts: tuple["Node", ...]


class Either(msgspec.Struct, frozen=True):
    """At least one part must match."""

    parts: tuple["Node", ...]


class Without(msgspec.Struct, frozen=True):
    """``base`` must match and ``excluded`` must not."""

    base: "Node"
    excluded: "Node"


Node: TypeAlias = Term | All | Either | Without


class Operator(Enum):
    """The operators, in the order in which they split a query."""

    OR = "OR"
    AND = "AND"
    NOT = "NOT"


_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f]")
_LEXEME: Final = re.compile(r'"(?P<quoted>[^"]*)"(?P<star>\*?)|(?P<bare>[^\s"]+)')

_Lexeme: TypeAlias = Term | Operator


def parse(query: str) -> Node | None:
    """The tree of ``query``, ``None`` when there is nothing to look for."""
    if query.isascii() and query.isalnum() and query not in Operator.__members__:
        return Term(query)  # one word, as most queries are
    lexemes = _operators(_lexemes(unified(_CONTROL.sub(" ", clean_text(query)))))
    return _either(lexemes) if lexemes else None


def terms(node: Node) -> Iterator[Term]:
    """The terms that a hit may contain: those excluded are left out."""
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, Term):
            yield part
        elif isinstance(part, Without):
            stack.append(part.base)
        else:
            stack.extend(reversed(part.parts))


def _lexemes(text: str) -> Iterator[_Lexeme]:
    if text.count('"') % 2:
        # The last one has no partner.
        text = "\0".join(text.rsplit('"', 1))
    for lexeme in _LEXEME.finditer(text):
        if (bare := lexeme["bare"]) is not None:
            if bare in Operator.__members__:
                yield Operator[bare]
                continue
            content, prefix = bare, bare.endswith("*")
        else:
            content, prefix = lexeme["quoted"].strip(), bool(lexeme["star"])
        if any(map(_is_written, content)):
            # A star after a sign makes no prefix: the word before the sign has ended.
            content = content.rstrip("*") if prefix else content
            yield Term(content.replace("\0", '"'), prefix and _is_part(content[-1]))


def _is_written(character: str) -> bool:
    # Ideographs may be younger than Python's tables.
    return character.isalnum() or is_cjk(character)


def _is_part(character: str) -> bool:
    # A vowel sign is not: for the index the word before it has ended.
    return words(f"a{character}a", paired=False).count(" ") == 2


def _operators(lexemes: Iterator[_Lexeme]) -> list[_Lexeme]:
    """``lexemes`` with at most one operator between two terms and none at the ends."""
    kept: list[_Lexeme] = []
    for lexeme in lexemes:
        if isinstance(lexeme, Operator):
            if not kept:
                continue
            if isinstance(kept[-1], Operator):
                kept.pop()
        kept.append(lexeme)
    if kept and isinstance(kept[-1], Operator):
        kept.pop()
    return kept


def _split(lexemes: Sequence[_Lexeme], operator: Operator) -> list[list[_Lexeme]]:
    groups: list[list[_Lexeme]] = [[]]
    for lexeme in lexemes:
        if lexeme is operator:
            groups.append([])
        else:
            groups[-1].append(lexeme)
    return groups


def _either(lexemes: Sequence[_Lexeme]) -> Node:
    parts = _distinct(_all(group) for group in _split(lexemes, Operator.OR))
    return parts[0] if len(parts) == 1 else Either(parts)


def _all(lexemes: Sequence[_Lexeme]) -> Node:
    parts = _distinct(_without(group) for group in _split(lexemes, Operator.AND))
    return parts[0] if len(parts) == 1 else All(parts)


def _without(lexemes: Sequence[_Lexeme]) -> Node:
    base, *excluded = (_together(group) for group in _split(lexemes, Operator.NOT))
    if not excluded:
        return base
    parts = _distinct(excluded)
    # a NOT b NOT c is a NOT (b OR c), which does not nest deeper with every NOT.
    return Without(base, parts[0] if len(parts) == 1 else Either(parts))


def _together(lexemes: Sequence[_Lexeme]) -> Node:
    parts = _distinct(lexeme for lexeme in lexemes if isinstance(lexeme, Term))
    return parts[0] if len(parts) == 1 else All(parts)


def _distinct(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(nodes))
