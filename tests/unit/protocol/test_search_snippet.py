"""Snippets of our own making."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.search.query import parse
from sessiond_protocol.search.scan import Scan
from sessiond_protocol.search.snippet import LENGTH, snippet


def made(query: str, text: str) -> str:
    tree = parse(query)
    assert tree is not None
    return snippet(tree, text)


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("安装", "请安装Docker", "请>>>安装<<<Docker"),
        ("docker", "请安装Docker吧", "请安装>>>Docker<<<吧"),
        ("装Docker吧", "请安装Docker吧!", "请安>>>装Docker吧<<<!"),
        ("好", "你好你好", "你>>>好<<<你>>>好<<<"),
        ("好你 你好", "你好你好", ">>>你好你好<<<"),
        ("हि", "हिन्दी", ">>>हि<<<न्दी"),
        ("мой", "мои\u0306 дом", ">>>мои\u0306<<< дом"),
        ("foo*", "foobar", ">>>foobar<<<"),
        ("a OR b NOT c", "a b c", ">>>a<<< >>>b<<< c"),
        ("葛城", "葛\U000e0100城", ">>>葛\U000e0100城<<<"),
        ("thanks", "thanks🥰", ">>>thanks<<<🥰"),
        ("nowhere", "some text", "some text"),
        ("a", "", ""),
    ],
)
def test_marks(query: str, text: str, expected: str) -> None:
    assert made(query, text) == expected


def test_text_left_out_is_an_ellipsis() -> None:
    text = " ".join(f"w{number}" for number in range(200))
    found = made("w100", text)
    assert found.startswith("...w")
    assert found.endswith("...")
    assert ">>>w100<<<" in found
    assert len(found.split()) == LENGTH
    assert not made("w0", text).startswith("...")
    assert not made("w199", text).endswith("...")


def test_the_stretch_with_most_terms_is_shown() -> None:
    text = "a " + "x " * 100 + "a b " + "x " * 100
    assert ">>>a<<< >>>b<<<" in made("a b", text)


def test_a_late_match_in_a_long_text_is_found() -> None:
    found = made("針", "x " * 50_000 + "山の針です " + "x " * 50_000)
    assert "山の>>>針<<<です" in found
    assert found.startswith("...")
    assert found.endswith("...")
    assert len(found) < 200


def test_a_phrase_longer_than_the_snippet_is_shown_whole() -> None:
    words = " ".join(f"w{number}" for number in range(60))
    assert f">>>{words}<<<" in made(f'"{words}"', f"中 {words} x " + "y " * 50)


@given(st.text(alphabet="ab 中文かि\u0306мои.\0"), st.text(alphabet="ab 中文かिмои*", min_size=1))
def test_a_hit_is_marked_and_the_rest_is_its_text(text: str, query: str) -> None:
    tree = parse(query)
    if tree is None:
        return
    found = snippet(tree, text)
    assert (">>>" in found) or not Scan(tree).matches(text)
    plain = found.replace(">>>", "").replace("<<<", "").strip(".")
    assert unicodedata.normalize("NFC", plain) in unicodedata.normalize("NFC", text)
