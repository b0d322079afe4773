"""Which texts need the pair index, and what it holds of them."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond_protocol.search import cjk, unicode61


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("安", " 安 "),
        ("安装", " 安装 装 "),
        ("安装器", " 安装 装器 器 "),
        ("请安装Docker然后", " 请安 安装 装 Docker 然后 后 "),
        ("好，你", " 好 ， 你 "),
        ("第１２回", " 第１ １２ ２回 回 "),
        ("カード", " カー ード ド "),
        ("か\u3099", " が "),
        ("\u1112\u1161\u11ab", " 한 "),
        ("葛\U000e0100城", " 葛城 城 "),
        ("⼀般", " 一般 般 "),
        ("時々", " 時々 々 "),
        ("ｶﾞ", " ｶﾞ ﾞ "),
        ("\U0002b820\U00030000", " \U0002b820\U00030000 \U00030000 "),
        ("thanks🥰", "thanks "),
        ("cafe\u0301🥰", "café "),
        ("500₽", "500 "),
        ("\u2067שלום\u2069", " שלום "),
        ("中 a🥰", " 中  a "),
    ],
)
def test_pairs(text: str, expected: str) -> None:
    assert cjk.pairs(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "naïve café",
        "мой дом",
        "हिन्दी",
        "ไทย",
        "done 🥰 now",
        "done 👍now",
        "。、・「」",
        "🥰",
    ],
)
def test_text_that_words_serve_well_has_no_pairs(text: str) -> None:
    assert cjk.pairs(text) is None
    assert not cjk.misread(text)


@pytest.mark.parametrize(
    ("text", "expected", "prefix"),
    [
        ("安", "安", True),
        ("安装", "安装", False),
        ("安装器", "安装 装器", False),
        ("安装Docker", "安装 装 Docker", False),
        ("装Docker然", "装 Docker 然", True),
        ("好，你", "好 ， 你", True),
        ("安装。", "安装", False),
        ("docker", "docker", False),
        ("安。docker\U000103d6。", "安 。docker\U000103d6", False),
    ],
)
def test_phrase(text: str, expected: str, prefix: bool) -> None:
    phrase, open_ended = cjk.phrase(text)
    assert phrase.split() == expected.split()
    assert open_ended is prefix


def test_every_character_of_a_run_is_a_letter_to_the_tokenizer() -> None:
    """Otherwise its pairs would not be tokens."""
    run = re.compile(f"[{cjk.CJK}]")
    separators = unicode61.separating()
    lost = [
        code
        for code in range(0x110000)
        if run.match(chr(code)) and separators & set(map(ord, cjk.normalise(chr(code))))
    ]
    assert lost == []


def test_signs_are_letters_to_the_tokenizer_alone() -> None:
    sign = re.compile(f"[{cjk.SIGNS}]")
    found = [chr(code) for code in range(0x110000) if sign.match(chr(code))]
    assert not any(character.isalnum() for character in found)


def test_runs_and_signs_have_nothing_in_common() -> None:
    both = re.compile(f"(?=[{cjk.CJK}])[{cjk.SIGNS}]")
    assert (
        both.search("".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x110000))))
        is None
    )


@pytest.mark.parametrize(
    "name",
    [
        "CJK UNIFIED",
        "CJK COMPATIBILITY IDEOGRAPH",
        "HIRAGANA LETTER",
        "KATAKANA LETTER",
        "HANGUL SYLLABLE",
        "BOPOMOFO LETTER",
        "HALFWIDTH KATAKANA LETTER",
        "KANGXI RADICAL",
    ],
)
def test_the_scripts_are_complete(name: str) -> None:
    missing = [
        hex(code)
        for code in range(0x110000)
        if unicodedata.name(chr(code), "").startswith(name) and not cjk.is_cjk(chr(code))
    ]
    assert missing == []


@given(
    st.text(
        alphabet=st.characters(exclude_categories=["Cs"])
        | st.sampled_from("中文かㅎ🥰a\u3099\ufe0f ")
    )
)
def test_pairs_depend_on_canonical_form_alone(text: str) -> None:
    pairs = cjk.pairs(text)
    assert (pairs is None) == (not cjk.misread(text))
    if pairs is not None:
        assert cjk.pairs(unicodedata.normalize("NFC", text)) == pairs
        assert unicodedata.is_normalized("NFC", pairs)


@given(st.text(alphabet="安装器ーが한\U00030000", min_size=1), st.data())
def test_any_part_of_a_run_is_a_phrase_of_its_pairs(run: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(run) - 1))
    end = data.draw(st.integers(start + 1, len(run)))
    phrase, prefix = cjk.phrase(run[start:end])
    tokens = (cjk.pairs(run) or "").split()
    wanted = phrase.split()
    assert any(
        all(
            there.startswith(word) if prefix else there == word
            for there, word in zip(tokens[at:], wanted, strict=False)
        )
        for at in range(len(tokens) - len(wanted) + 1)
    )
