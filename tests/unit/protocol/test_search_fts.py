"""From trees to FTS5 expressions."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.search.fts import (
    MAX_PHRASE_WORDS,
    MAX_TERMS,
    Expression,
    pairs_expression,
    words_expression,
)
from sessiond_protocol.search.query import Node, parse


def tree(query: str) -> Node:
    node = parse(query)
    assert node is not None
    return node


@pytest.mark.parametrize(
    ("query", "words", "pairs"),
    [
        ("Docker", '"docker"', '"docker"'),
        ("Dock*", '"dock"*', '"dock"*'),
        ("chat-send", '"chat send"', '"chat send"'),
        ("a b", '("a" AND "b")', '("a" AND "b")'),
        ("a b OR c NOT d", '(("a" AND "b") OR ("c" NOT "d"))', '(("a" AND "b") OR ("c" NOT "d"))'),
        ("安", '"安"', '"安"*'),
        ("安装*", '"安装"', '"安装"'),
        ("安装Docker", '"安装docker"', '"安装 装 docker"'),
        ("安装Dock*", '"安装dock"*', '"安装 装 dock"*'),
        ("CAFÉ", '"cafe"', '"cafe"'),
    ],
)
def test_exact_expressions(query: str, words: str, pairs: str) -> None:
    if query == "安装*":
        words += "*"
    assert words_expression(tree(query)) == Expression(words, exact=True)
    assert pairs_expression(tree(query)) == Expression(pairs, exact=True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("कि", '"क"'),
        ("a NOT कि", '"a"'),
        ("कि NOT a", '("क" NOT "a")'),
        ("a OR कि", '("a" OR "क")'),
        ("мой", '("мои" OR "мой")'),
        ("a NOT мой", '"a"'),
    ],
)
def test_what_the_index_does_not_know_widens_the_search(query: str, expected: str) -> None:
    found = words_expression(tree(query))
    assert found.text is not None
    assert sorted(found.text) == sorted(expected)
    assert not found.exact


def test_letters_the_index_does_not_hold_leave_nothing_to_ask_it() -> None:
    nothing = "\u19b0"  # a letter that the tokenizer takes for a mark
    assert words_expression(tree(nothing)) == Expression(None, exact=False)
    assert words_expression(tree(f"a OR {nothing}")) == Expression(None, exact=False)
    assert words_expression(tree(f"{nothing} NOT a")) == Expression(None, exact=False)
    assert words_expression(tree(f"a {nothing}")) == Expression('("a")', exact=False)


def test_many_terms_are_cut_where_that_widens_the_search() -> None:
    many = [f"w{number}" for number in range(MAX_TERMS + 1)]
    every = words_expression(tree(" ".join(many)))
    assert every.text is not None
    assert every.text.count('"') == 2 * MAX_TERMS
    assert not every.exact
    assert words_expression(tree(" OR ".join(many))) == Expression(None, exact=False)
    assert words_expression(tree("a NOT " + " ".join(many))) == Expression('"a"', exact=False)


def test_long_phrases_are_cut() -> None:
    words = [f"w{number}" for number in range(MAX_PHRASE_WORDS + 1)]
    found = words_expression(tree(f'"{" ".join(words)}"*'))
    assert found == Expression(f'"{" ".join(words[:-1])}"', exact=False)


@given(st.text() | st.text(alphabet='ab "*ANDORT()^:+-中ि👍é\0'))
def test_every_expression_is_one_to_sqlite(query: str) -> None:
    node = parse(query)
    if node is None:
        return
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(text)")
        for expression in (words_expression(node), pairs_expression(node)):
            if expression.text is not None:
                connection.execute("SELECT * FROM t WHERE t MATCH ?", (expression.text,)).fetchall()
    finally:
        connection.close()


def test_the_largest_expression_is_one_to_sqlite() -> None:
    phrase = " ".join(f"й{number}" for number in range(MAX_PHRASE_WORDS))
    query = " NOT ".join(f'"{phrase} {number}"*' for number in range(MAX_TERMS))
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(text)")
        text = words_expression(tree(query)).text
        assert text is not None
        connection.execute("SELECT * FROM t WHERE t MATCH ?", (text,)).fetchall()
    finally:
        connection.close()
