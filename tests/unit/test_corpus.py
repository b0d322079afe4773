"""The real text that tests and benchmarks share."""

from pathlib import Path

import pytest

from tests.support.corpus import (
    Dialogue,
    dialogues,
    long_texts,
    paragraphs,
    read_dialogues,
    turns_of,
)


def test_dialogues_cover_many_languages_and_scripts() -> None:
    found = dialogues()
    languages = {dialogue.language for dialogue in found}
    assert {"english", "chinese", "japanese", "korean", "russian", "hindi", "hebrew"} <= languages
    chinese = "".join(turn for d in found if d.language == "chinese" for turn in d.turns)
    assert any("\u4e00" <= character <= "\u9fff" for character in chinese)
    assert len(found) > 5000


def test_every_dialogue_has_turns_and_a_place_of_its_own() -> None:
    found = dialogues()
    assert all(d.turns and all(turn.strip() for turn in d.turns) for d in found)
    places = [(d.language, d.category, d.index) for d in found]
    assert len(set(places)) == len(places)
    assert places == sorted(places)


def test_the_list_belongs_to_the_caller() -> None:
    dialogues().clear()
    assert dialogues()


@pytest.mark.parametrize(
    ("conversation", "turns"),
    [
        (["a question", "an answer"], ["a question", "an answer"]),
        ("a bare text", ["a bare text"]),
        ([1969, True, " padded "], ["1969", "True", "padded"]),
        ([{"a joke": "its point"}], ["a joke: its point"]),
        ([["nested"], "flat"], ["nested", "flat"]),
        (["", None, "  "], []),
        (None, []),
    ],
)
def test_oddities_become_text(conversation: object, turns: list[str]) -> None:
    assert turns_of(conversation) == turns


def test_scalars_stay_as_written(tmp_path: Path) -> None:
    path = tmp_path / "english" / "facts.yml"
    path.parent.mkdir()
    path.write_text(
        "conversations:\n- - is it?\n  - Yes\n- []\n- - when?\n  - 2001-01-01\n  - 1.10\n",
        encoding="utf-8",
    )
    assert list(read_dialogues(path)) == [
        Dialogue("english", "facts", 0, ["is it?", "Yes"]),
        Dialogue("english", "facts", 2, ["when?", "2001-01-01", "1.10"]),
    ]


@pytest.mark.parametrize("content", ["- only\n- a list\n", "categories: [x]\n", "just text"])
def test_a_file_without_conversations_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd.yml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.yml has no list of conversations"):
        list(read_dialogues(path))


def test_long_texts_are_long_and_named_once() -> None:
    texts = long_texts()
    assert sum(len(text.text) for text in texts) > 300_000
    assert all(text.text.strip() for text in texts)
    names = [text.name for text in texts]
    assert len(set(names)) == len(names)
    assert any("Beautiful is better than ugly" in text.text for text in texts)


def test_paragraphs_are_decided_by_the_seed() -> None:
    assert paragraphs(7, 300) == paragraphs(7, 300)
    assert paragraphs(7, 300) != paragraphs(8, 300)
    assert paragraphs(7, 100) == paragraphs(7, 300)[:100]


def test_paragraphs_mix_prose_with_dialogue() -> None:
    spoken = {"\n".join(dialogue.turns) for dialogue in dialogues()}
    found = paragraphs(1, 200)
    prose = [text for place, text in enumerate(found) if place % 10 != 9]
    assert all(text in spoken for text in found[9::10])
    assert all(80 <= len(text) <= 4000 for text in prose)


def test_paragraphs_go_on_after_all_were_used() -> None:
    found = paragraphs(3, 20_000)
    assert len(found) == 20_000
    assert 1000 < len(set(found)) < 20_000
    assert paragraphs(3, 0) == []
    with pytest.raises(ValueError, match="count -1 is negative"):
        paragraphs(3, -1)
