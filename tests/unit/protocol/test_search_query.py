"""What users type, read as they mean it."""

from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.search.cjk import is_cjk
from sessiond_protocol.search.query import All, Either, Node, Term, Without, parse, terms


def t(text: str) -> Term:
    return Term(text)


A, B, C, D = (t(name) for name in "abcd")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a", A),
        ("  a  ", A),
        ("a b", All((A, B))),
        ("a\u3000b", All((A, B))),
        ("a a", A),
        ("a OR b", Either((A, B))),
        ("a AND b", All((A, B))),
        ("a NOT b", Without(A, B)),
        ("a AND NOT b", Without(A, B)),
        ("a NOT b NOT c", Without(A, Either((B, C)))),
        ("a b NOT c d", Without(All((A, B)), All((C, D)))),
        ("a AND b NOT c", All((A, Without(B, C)))),
        ("a OR b AND c", Either((A, All((B, C))))),
        ("a OR b NOT c", Either((A, Without(B, C)))),
        ("a b OR c d", Either((All((A, B)), All((C, D))))),
    ],
)
def test_operators_bind_as_promised(query: str, expected: Node) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("NOT a", A),
        ("AND OR a", A),
        ("a AND", A),
        ("a OR NOT", A),
        ("a AND OR b", Either((A, B))),
        ("a NOT AND b", All((A, B))),
        ("a OR AND NOT b", Without(A, B)),
        ("a OR - NOT b", Without(A, B)),
        ("a OR 👍", A),
        ("👍 AND a", A),
    ],
)
def test_dangling_operators_are_dropped_and_of_several_the_last_counts(
    query: str, expected: Node
) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    "word", ["and", "or", "not", "And", "nOT", "ANDROID", "NOTE", "AND.", "NEAR"]
)
def test_everything_but_the_operators_is_a_word(word: str) -> None:
    assert parse(f"a {word} b") == All((A, t(word), B))


def test_operators_in_quotes_are_words() -> None:
    assert parse('"NOT" "OR"') == All((t("NOT"), t("OR")))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"a b"', t("a b")),
        ('"a b" c', All((t("a b"), C))),
        ('a"b c"d', All((A, t("b c"), D))),
        ('a NOT"b"', Without(A, B)),
        ('"a', t('"a')),
        ('a"', t('a"')),
        ('"a" "b', All((A, t('"b')))),
        ('""', None),
        ('"" a', A),
        ('"-" a', A),
        ('"a AND b"', t("a AND b")),
    ],
)
def test_quotation_marks(query: str, expected: Node | None) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a*", Term("a", prefix=True)),
        ("a**", Term("a", prefix=True)),
        ('"a b"*', Term("a b", prefix=True)),
        ('"a b" *', t("a b")),
        ("*a", t("*a")),
        ("a*b", t("a*b")),
        ("(a*)", t("(a*)")),
        ("a-*", t("a-")),
        ("*", None),
        ("a *", A),
        ("NOT*", Term("NOT", prefix=True)),
        ("कि*", t("कि")),  # the vowel sign has ended the word that the index knows
        ("cafe\u0301*", Term("cafe\u0301", prefix=True)),
        ("安*", Term("安", prefix=True)),
    ],
)
def test_prefixes(query: str, expected: Node | None) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    "query",
    ["", " ", "\0", "\t\n", "-", "()", '"', "***", "👍", "...", "AND", "NOT OR", "ि", "\ue000"],
)
def test_nothing_to_look_for(query: str) -> None:
    assert parse(query) is None


@pytest.mark.parametrize(
    "text", ["chat-send", "P2.2", "my_app.config.ts", "user@host", "c++", "#1", "it's"]
)
def test_punctuation_is_text(text: str) -> None:
    assert parse(text) == t(text)


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1f", "\x7f", "\x9f"])
def test_control_characters_are_spaces(character: str) -> None:
    assert parse(f"a{character}b") == All((A, B))
    assert parse(f'"a{character}b"') == t("a b")


def test_a_lone_surrogate_is_the_replacement_character() -> None:
    assert parse("a\ud800b") == t("a\ufffdb")


def test_terms_leaves_out_what_is_excluded() -> None:
    tree = parse("a OR b NOT c AND d*")
    assert tree is not None
    assert list(terms(tree)) == [A, B, Term("d", prefix=True)]


@given(st.text() | st.text(alphabet='ab "*ANDORT()\0-中ि👍'))
def test_no_input_raises_and_every_term_has_a_letter_or_digit(query: str) -> None:
    tree = parse(query)
    found = list(terms(tree)) if tree is not None else []
    assert (tree is None) == (not found)
    assert all(any(c.isalnum() or is_cjk(c) for c in term.text) for term in found)
    assert not any("\0" in term.text for term in found)


@given(st.lists(st.text(alphabet="ab()+-^:.'中é", min_size=1), min_size=1))
def test_without_syntax_every_word_is_a_term(chosen: list[str]) -> None:
    expected = dict.fromkeys(t(word) for word in chosen if any(map(str.isalnum, word)))
    tree = parse(" ".join(chosen))
    assert (list(terms(tree)) if tree is not None else []) == list(expected)


@given(
    st.text(ascii_letters + digits, min_size=1, max_size=5) | st.sampled_from(["OR", "AND", "NOT"])
)
def test_a_word_alone_means_what_it_means_between_spaces(word: str) -> None:
    assert parse(word) == parse(f" {word} ")
