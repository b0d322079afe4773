"""Texts as the indexes read them."""

import unicodedata

import pytest

from sessiond_protocol.search.folding import (
    CLOSE,
    OPEN,
    has_marks,
    is_mark,
    letters,
    spellings,
    words,
)


def test_runs_stand_apart_in_the_paired_reading() -> None:
    assert words("请安装Docker然后", paired=True) == " 请安装 docker 然后 "


def test_signs_that_glue_are_spaces_in_the_paired_reading() -> None:
    assert words("thanks🥰bye 500₽", paired=True) == " thanks bye 500 "
    assert words("thanks🥰bye", paired=False) == " thanks🥰bye "


def test_letters_keep_marks_and_collapse_the_rest() -> None:
    assert letters("कि , ab", paired=False) == f"{OPEN} {CLOSE}क{OPEN}ि {CLOSE}ab{OPEN} {CLOSE}"


def test_letters_have_an_empty_gap_where_a_run_ends() -> None:
    expected = f"{OPEN} {CLOSE}装{OPEN}{CLOSE}a{OPEN} {CLOSE}"
    assert letters("装A", paired=True) == expected


def test_letters_ignore_joiners_and_selectors() -> None:
    assert letters("क्\u200dष", paired=False) == letters("क्ष", paired=False)


def test_letters_of_a_text_with_their_own_delimiters() -> None:
    assert letters(f"a{OPEN}{CLOSE}b", paired=False) == letters("a b", paired=False)


def test_marks() -> None:
    assert is_mark("ि")
    assert not is_mark("क")
    assert not is_mark("\u0301")  # vanishes inside a word
    assert not is_mark("\ufe0f")  # says nothing
    assert has_marks("ที่")
    assert not has_marks("don't")


@pytest.mark.parametrize("text", ["plain", "café", "señor", "Straße", "天気", "ไทย"])
def test_most_texts_have_one_spelling(text: str) -> None:
    assert spellings(text) == (text,)


@pytest.mark.parametrize("text", ["мой", "tế", "ώρα", "ज़रा", "হয়", "가"])
def test_every_spelling_leads_to_all_of_them(text: str) -> None:
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")} | {text}
    readings = {words(form, paired=False) for form in forms}
    for form in forms:
        assert spellings(form)[0] == form
        assert {words(found, paired=False) for found in spellings(form)} >= readings


def test_letters_that_nfc_takes_apart_are_put_together() -> None:
    assert words("\u095b", paired=False) in {
        words(form, paired=False) for form in spellings("\u091c\u093c")
    }
