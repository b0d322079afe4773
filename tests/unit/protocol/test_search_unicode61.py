"""The tokenizer as data, held against the tokenizer itself."""

import sqlite3

import pytest

from sessiond_protocol.search import folding, unicode61

# Everything assigned or likely to be, and a part of the planes that are all alike.
_CODES = [
    code for code in (*range(0x20000), *range(0xE0000, 0xE0400)) if not 0xD800 <= code < 0xE000
]


def _tokens(codes: list[int]) -> dict[int, list[str]]:
    """What the tokenizer makes of ``q<character>q``, for each code point."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE read USING fts5(text, content='')")
        connection.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(read, instance)")
        connection.executemany(
            "INSERT INTO read (rowid, text) VALUES (?, ?)",
            ((code + 1, f"q{chr(code)}q") for code in codes),
        )
        found: dict[int, list[str]] = {code: [] for code in codes}
        rows = connection.execute("SELECT doc, term FROM tokens ORDER BY doc, offset").fetchall()
        for document, token in rows:
            found[document - 1].append(token)
        return found
    finally:
        connection.close()


def test_every_character_is_read_as_the_tokenizer_reads_it() -> None:
    separators = unicode61.separating()
    folds = unicode61.folds()
    for code, tokens in _tokens(_CODES).items():
        if code in separators:
            expected = ["q", "q"]
        else:
            folded = folds.get(code, code)
            expected = ["q" + ("" if folded is None else chr(folded)) + "q"]
        assert tokens == expected, hex(code)


def test_folding_twice_is_folding_once() -> None:
    """A query is handed to the tokenizer folded already."""
    folds = unicode61.folds()
    assert all(folds.get(code, code) == code for code in folds.values() if code is not None)


def test_no_fold_leads_to_a_separator() -> None:
    separators = unicode61.separating()
    assert separators.isdisjoint(unicode61.folds())
    assert separators.isdisjoint(filter(None, unicode61.folds().values()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "  "),
        ("Hello, World!", " hello world "),
        ("Crème BRÛLÉE", " creme brulee "),
        ("cre\u0300me", " creme "),
        ("\u0301a\u0301", " a "),
        ("हिन्दी", " ह न द "),
        ("tế", " tế "),
        ("a\0b\x1fc", " a b c "),
        ("安装Docker", " 安装docker "),
        ("p2.2 my_app", " p2 2 my app "),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert folding.words(text, paired=False) == expected
