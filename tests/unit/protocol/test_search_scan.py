"""What is a hit, judged by the text alone."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.search import cjk
from sessiond_protocol.search.query import parse
from sessiond_protocol.search.scan import Scan


def matches(query: str, text: str) -> bool:
    tree = parse(query)
    return tree is not None and Scan(tree).matches(text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("Docker", "请安装Docker然后"),
        ("docker", "DOCKER!"),
        ("安装Docker", "请安装Docker然后"),
        ("装Docker然", "请安装Docker然后"),
        ("装 后", "请安装Docker然后"),
        ("好，你", "你好，你好吗"),
        ("好你", "你好你好"),
        ("１", "第１２回"),
        ("국어", "한국어"),
        ("ㅎ", "ㅋㅋㅎㅎ"),
        ("が", "か\u3099"),
        ("か\u3099く", "がくせい"),
        ("葛城", "葛\U000e0100城"),
        ("一般", "⼀般"),
        ("⼀般", "一般"),
        ("chat-send", "chat send"),
        ("cafe", "Café"),
        ("café", "CAFE"),
        ("हिन्दी", "यह हिन्दी है"),
        ("कि", "किताब"),
        ("क", "कि"),
        ("หนังสือ", "อ่าน หนังสือ."),
        ("мой", "мои\u0306 дом"),
        ("мои\u0306", "мой дом"),
        ("ज़रा", "ज\u093cरा"),
        ("ज\u093cरा", "\u095bरा"),
        ("क्ष", "क्\u200dष"),
        ("thanks", "thanks🥰"),
        ("500", "500₽"),
        ("\u19b0", "ᦂ\u19b0ᦃ"),
        ("a b NOT c", "b a"),
        ('"a b"*', "a bc"),
        ("foo*", "a foobar"),
        ("安装dock*", "安装Docker"),
        ('"कि ताब"', "कि, ताब"),
    ],
)
def test_hits(query: str, text: str) -> None:
    assert matches(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("Dock", "请安装Docker然后"),
        ("好你", "你好，你好吗"),
        ("好，你", "好你"),
        ("安器", "安装器"),
        ("हिन्दी", "हानिद"),
        ("का", "की"),
        ("मे", "म"),
        ("мой", "мои"),
        ("tế", "te"),
        ("hello", "hello NOT world"[6:]),
        ("a NOT b", "a b"),
        ('"a b"', "a c b"),
        ("foo*", "afoo"),
        ("ob", "foobar"),
        ("b-a", "a b"),
        ("\u19b0", "ᦂ"),
        ('"कि ताब"', "किताब"),
    ],
)
def test_misses(query: str, text: str) -> None:
    assert not matches(query, text)


_ALPHABET = st.sampled_from("中文安装かガー한국ab１é") | st.characters(
    exclude_categories=["Cs", "Cc"]
)


@given(st.text(alphabet=_ALPHABET, min_size=1), st.data())
def test_any_part_of_a_run_finds_its_message(text: str, data: st.DataObject) -> None:
    text = unicodedata.normalize("NFC", text + data.draw(st.sampled_from("中か한")) + text)
    run = data.draw(st.sampled_from([at for at, c in enumerate(text) if cjk.is_cjk(c)]))
    end = run + 1
    while end < len(text) and cjk.is_cjk(text[end]) and data.draw(st.booleans()):
        end += 1
    assert matches(text[run:end], text)


@given(st.text(), st.text())
def test_any_word_finds_its_message(before: str, after: str) -> None:
    for word in ("word", "chat-send", "हिन्दी", "ที่", "мой", "tế", "安装Docker", "ｶﾞ"):
        assert matches(word, f"{before} {word} {after}")


@given(st.text(min_size=1), st.text(alphabet="ab cé中ि"))
def test_a_quoted_text_finds_itself(text: str, around: str) -> None:
    phrase = text.replace('"', " ")
    if parse(f'"{phrase}"') is not None:
        assert matches(f'"{phrase}"', f"{around} {phrase} {around}")
