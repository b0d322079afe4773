"""Search in a database: both indexes together, filters, pages, context, the slow way."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond_protocol.queries.facts import read_facts
from sessiond_protocol.search.candidates import IDS
from sessiond_protocol.search.messages import LONG_TAIL, search
from sessiond_protocol.search.query import parse
from sessiond_protocol.search.scan import Scan
from tests.support.search_file import SearchFile, search_file


@pytest.fixture
def file() -> Iterator[SearchFile]:
    with search_file() as opened:
        yield opened


def test_a_row_has_exactly_what_is_promised(file: SearchFile) -> None:
    found = file.append("please restart Docker now")
    assert file.search("docker").rows == [
        {
            "id": found,
            "session_id": "s",
            "role": "user",
            "snippet": "please restart >>>Docker<<< now",
            "timestamp": 7.0,
            "tool_name": None,
            "source": "cli",
            "model": "m",
            "session_started": 5.0,
            "context": [{"role": "user", "content": "please restart Docker now"}],
        }
    ]


@pytest.mark.parametrize("query", ["", "   ", "\0", "()", "AND", "👍"])
def test_a_blank_query_finds_nothing(file: SearchFile, query: str) -> None:
    file.append("text AND 👍")
    assert file.search(query).rows == []


def test_the_best_match_comes_first(file: SearchFile) -> None:
    weak = file.append("apple " + "pear " * 50)
    strong = file.append("apple apple apple")
    assert file.found("apple") == [strong, weak]


def test_both_indexes_are_interleaved(file: SearchFile) -> None:
    words = [file.append("docker " + "x " * number) for number in range(3)]
    pairs = [file.append("安装docker " + "x " * number) for number in range(3)]
    found = file.found("docker")
    assert found == [words[0], pairs[0], words[1], pairs[1], words[2], pairs[2]]
    for limit in (1, 2, 5):
        for offset in range(8):
            rows = file.search("docker", limit=limit, offset=offset).rows
            assert [row["id"] for row in rows] == found[offset : offset + limit]


def test_pages_of_either_index_alone(file: SearchFile) -> None:
    for query, text in (("docker", "docker {}"), ("安装", "安装 {}"), ("हि", "हि {}")):
        for number in range(7):
            file.append(text.format("x " * number))
        found = file.found(query)
        assert len(found) == 7
        assert [
            row["id"]
            for offset in range(0, 9, 2)
            for row in file.search(query, limit=2, offset=offset).rows
        ] == found


def test_more_hits_than_one_statement_takes(file: SearchFile) -> None:
    ids = file.extend(
        text for number in range(1100) for text in (f"docker {number}", f"装 {number}")
    )
    assert sorted(file.found("docker OR 装")) == ids
    assert len(file.search("docker", limit=600, offset=50).rows) == 600


def test_operators_hold_across_mixed_scripts(file: SearchFile) -> None:
    both = file.append("安装 docker")
    chinese = file.append("安装")
    english = file.append("docker")
    assert set(file.found("docker OR 安装")) == {both, chinese, english}
    assert file.found("docker 安装") == [both]
    assert file.found("docker NOT 安装") == [english]
    assert file.found("安 NOT docker") == [chinese]


def test_words_glued_to_other_text_are_found(file: SearchFile) -> None:
    found = file.append("请安装Docker然后")
    for query in ("Docker", "安装Docker", "装Docker然", "Dock*", "然后", "请", '"Docker然"'):
        assert file.found(query) == [found], query


def test_vowel_signs_count(file: SearchFile) -> None:
    right = file.append("कि")
    wrong = file.append("की का कु")
    assert file.found("कि") == [right]
    assert file.found("का NOT कि") == [wrong]
    assert file.found("कु NOT का") == []


def test_source_and_role_filters(file: SearchFile) -> None:
    for source in ("cli", "cron", "telegram"):
        file.session(source, source)
        for role in ("user", "tool"):
            for text in ("docker", "安装docker", "docker कि"):
                file.append(text, source, role)
    everything = file.found("docker")
    assert len(everything) == 18
    for query, share in (("docker", 1), ("装docker", 3), ("docker कि", 3), ("docker NOT कि", 1.5)):
        assert len(file.found(query)) == 18 / share
        assert len(file.found(query, source_filter=["cli"])) == 6 / share
        assert len(file.found(query, exclude_sources=["cli"])) == 12 / share
        assert len(file.found(query, role_filter=["tool"])) == 9 / share
        mixed = file.found(
            query, source_filter=["cli", "cron"], exclude_sources=["cron"], role_filter=["user"]
        )
        assert len(mixed) == 3 / share
    assert file.found("docker", source_filter=[]) == []
    assert file.found("docker", role_filter=[]) == everything
    assert file.found("docker", exclude_sources=[]) == everything


@pytest.mark.parametrize("argument", ["limit", "offset"])
def test_negative_bounds_are_refused_by_name(file: SearchFile, argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be between 0 and .*, -1 is not"):
        file.search("a", **{argument: -1})


def test_bounds_may_be_as_large_as_they_like(file: SearchFile) -> None:
    file.append("a 中")
    file.append("a")
    assert len(file.search("a", limit=2**63 - 1).rows) == 2
    assert file.search("a", limit=2**63 - 1, offset=2**63 - 1).rows == []
    assert file.search("a", limit=0).rows == []


def test_context_is_of_the_same_session(file: SearchFile) -> None:
    file.append("before " + "x" * 300, "one", "user")
    file.append("elsewhere", "two")
    file.append("the needle " + "é" * 300, "one", "assistant")
    file.append("elsewhere", "two")
    file.append(None, "one", "tool")
    (row,) = file.search("needle").rows
    assert row["context"] == [
        {"role": "user", "content": ("before " + "x" * 300)[:200]},
        {"role": "assistant", "content": ("the needle " + "é" * 300)[:200]},
        {"role": "tool", "content": ""},
    ]


def test_a_hit_looks_the_same_whichever_way_it_is_read(file: SearchFile) -> None:
    """The first page brings its context along; later ones and larger ones look it up."""
    file.connection.execute("ALTER TABLE messages ADD COLUMN active INTEGER NOT NULL DEFAULT 1")
    for number in range(4):
        session_id = f"s{number % 2}"
        file.append(f"needle {'x ' * number}", session_id)
        rewound = file.append("rewound", session_id)
        file.connection.execute("UPDATE messages SET active = 0 WHERE id = ?", (rewound,))
        file.append('\0json:[{"type": "text", "text": "thread"}]', session_id)
    whole = file.search("needle").rows
    assert [len(row["context"]) for row in whole] == [2, 2, 3, 3]
    assert all("rewound" not in str(row) and "thread" in str(row) for row in whole)
    assert file.search("needle", limit=IDS + 1).rows == whole
    for offset in range(5):
        assert file.search("needle", limit=2, offset=offset).rows == whole[offset : offset + 2]
    file.append("needle 安")
    assert file.search("needle").rows[2:] == whole[1:]


def test_structured_content_of_newer_files_is_shown_as_its_text(file: SearchFile) -> None:
    file.foreign('\0json:[{"type": "text", "text": "see the needle"}]')
    file.foreign('\0json:{"broken')
    (row,) = file.search("needle").rows
    assert row["snippet"] == "see the >>>needle<<<"
    assert [part["content"] for part in row["context"]] == ["see the needle", '\0json:{"broken']


@pytest.mark.parametrize("at", [0, 1, 2])
def test_structured_content_is_read_whole_wherever_it_stands(file: SearchFile, at: int) -> None:
    """JSON that is cut could not be read; plain messages beside it are cut all the same."""
    texts = [part * 300 for part in ("one ", "needle ", "two ")]
    for number, text in enumerate(texts):
        file.append(f'\0json:[{{"type": "text", "text": "{text}"}}]' if number == at else text)
    (row,) = file.search("needle").rows
    assert [part["content"] for part in row["context"]] == [text[:200] for text in texts]


def test_text_after_a_nul_is_found_and_shown(file: SearchFile) -> None:
    file.append("head\0tail and 安装")
    file.append("head\0tail")
    rows = file.search("tail").rows
    assert [row["snippet"] for row in rows] == [
        "head\0>>>tail<<<",
        "head\0>>>tail<<< and 安装",
    ]
    assert {part["content"] for row in rows for part in row["context"]} == {
        "head\0tail and 安装",
        "head\0tail",
    }


def test_bytes_that_are_no_text_do_not_break_a_search(file: SearchFile) -> None:
    file.connection.execute(
        "INSERT INTO messages (session_id, role, content, timestamp)"
        " VALUES ('s', 'user', CAST(x'6e6565646c65ff' AS TEXT), 1.0)"
    )
    found = file.foreign("needle 中")
    assert len(file.search("needle").rows) == 2
    file.connection.execute("UPDATE sessiond_meta SET index_state = 'damaged'")
    assert len(file.search("needle").rows) == 2
    assert file.found("中") == [found]


def test_rewound_messages_are_left_out(file: SearchFile) -> None:
    file.connection.execute("ALTER TABLE messages ADD COLUMN active INTEGER NOT NULL DEFAULT 1")
    first = file.append("needle 中")
    rewound = [file.append("needle"), file.append("needle 中"), file.append("needle कि")]
    last = file.append("needle")
    for message_id in rewound:
        file.connection.execute("UPDATE messages SET active = 0 WHERE id = ?", (message_id,))
    assert sorted(file.found("needle")) == [first, last]
    assert file.found("needle कि") == []
    for row in file.search("needle").rows:
        assert len(row["context"]) == 2
    file.connection.execute("UPDATE sessiond_meta SET index_state = 'damaged'")
    assert sorted(file.found("needle")) == [first, last]


def test_messages_without_a_session_row_are_found(file: SearchFile) -> None:
    found = file.append("needle", "gone")
    file.connection.execute("DELETE FROM sessions WHERE id = 'gone'")
    (row,) = file.search("needle", exclude_sources=["cli"]).rows
    assert (row["id"], row["source"], row["session_started"]) == (found, None, None)


class TestForeignRows:
    """Rows of another program: the pair index hears of them late, or never."""

    def test_messages_the_pair_index_has_not_looked_at_are_found(self, file: SearchFile) -> None:
        known = file.append("安装 known")
        late = file.foreign("请安装Docker")
        english = file.foreign("Docker")
        page = file.search("安装")
        assert {row["id"] for row in page.rows} == {known, late}
        assert not page.degraded
        assert set(file.found("docker")) == {late, english}
        assert file.found("docker NOT 安装") == [english]
        assert file.found("请安装Docker NOT docker") == []

    def test_they_obey_filters_and_pages(self, file: SearchFile) -> None:
        late = [file.foreign("安装", "s", role) for role in ("user", "tool")]
        file.session("other", "cron")
        late.append(file.foreign("安装", "other"))
        assert file.found("安") == late[::-1]
        assert file.found("安", source_filter=["cron"]) == [late[2]]
        assert file.found("安", role_filter=["tool"]) == [late[1]]
        assert [row["id"] for row in file.search("安", limit=1, offset=1).rows] == [late[1]]

    def test_a_message_indexed_before_the_cursor_moved_comes_once(self, file: SearchFile) -> None:
        found = file.append("安装")
        file.connection.execute("UPDATE sessiond_meta SET cjk_cursor = 0")
        assert file.found("安装") == [found]

    def test_a_message_that_becomes_a_pair_meanwhile_is_found(self, file: SearchFile) -> None:
        """The daemon looks at it after the search has seen that no pair matches."""
        late = file.foreign("安装")

        class Looking:
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                cursor = file.connection.execute(sql, parameters)
                if "index_state" in sql:
                    file.look(late, "安装")
                return cursor

        page = search(Looking(), read_facts(file.connection), "安装")
        assert [row["id"] for row in page.rows] == [late]

    def test_a_long_tail_is_said_to_be_degraded(self, file: SearchFile) -> None:
        file.append("安装")
        file.connection.execute("UPDATE messages SET id = ?", (LONG_TAIL + 2,))
        found = file.search("安")
        assert found.degraded
        assert [row["id"] for row in found.rows] == [LONG_TAIL + 2]

    def test_an_updated_message_is_judged_by_its_new_text(self, file: SearchFile) -> None:
        message = file.append("安装旧的")
        file.connection.execute("UPDATE messages SET content = '安装新的'")
        assert file.found("旧") == []
        assert file.found("安装") == [message]
        assert file.search("安装").rows[0]["snippet"] == ">>>安装<<<新的"

    def test_a_deleted_message_is_no_hit(self, file: SearchFile) -> None:
        message = file.append("安装旧的")
        kept = file.append("安装")
        file.connection.execute("DELETE FROM messages WHERE id = ?", (message,))
        assert file.found("安装") == [kept]


class TestTheSlowWay:
    @pytest.fixture(params=["state", "no words", "no pairs", "no meta", "no row"])
    def broken(self, request: pytest.FixtureRequest, file: SearchFile) -> SearchFile:
        """A file whose indexes cannot be trusted, or are not there."""
        statement = {
            "state": "UPDATE sessiond_meta SET index_state = 'rebuilding'",
            "no words": "DROP TABLE messages_fts",
            "no pairs": "DROP TABLE sessiond_cjk",
            "no meta": "DROP TABLE sessiond_meta",
            "no row": "DELETE FROM sessiond_meta",
        }
        file.extend(["docker", "安装Docker", "कि", "की", "x " * 100 + "Docker"])
        file.connection.execute(statement[request.param])
        return file

    def test_it_says_so_and_finds_everything_newest_first(self, broken: SearchFile) -> None:
        page = broken.search("docker")
        assert page.degraded
        assert [row["id"] for row in page.rows] == [5, 2, 1]
        assert page.rows[1]["snippet"] == "安装>>>Docker<<<"
        assert page.rows[0]["snippet"].startswith("...x x")
        assert len(page.rows[1]["context"]) == 3
        assert [row["id"] for row in broken.search("docker", limit=1, offset=1).rows] == [2]
        assert broken.found("कि") == [3]
        assert broken.found("docker", role_filter=["tool"]) == []

    def test_an_index_that_is_known_to_be_damaged_is_not_asked(self, file: SearchFile) -> None:
        found = file.append("安装")
        file.connection.execute("UPDATE sessiond_meta SET index_state = 'damaged'")
        file.connection.execute("DROP TABLE sessiond_cjk_fts_idx")
        assert file.found("安装") == [found]

    def test_it_reads_page_after_page(self, file: SearchFile) -> None:
        ids = file.extend("docker" if number % 3 else "other" for number in range(350))
        file.connection.execute("UPDATE sessiond_meta SET index_state = 'rebuilding'")
        assert file.found("docker") == [found for found in ids[::-1] if (found - 1) % 3]

    def test_terms_no_index_holds_are_found_this_way_too(self, file: SearchFile) -> None:
        found = file.append("ᦂ\u19b0ᦃ")
        page = file.search("\u19b0")
        assert [row["id"] for row in page.rows] == [found]
        assert not page.degraded

    def test_queries_with_more_terms_than_an_expression_takes(self, file: SearchFile) -> None:
        text = " ".join(f"w{number}" for number in range(300))
        found = file.append(text)
        file.append("w1 w2")
        assert file.found(text) == [found]
        assert file.found(f'"{text}"') == [found]
        assert found in file.found(" OR ".join(f"v{number}" for number in range(300)) + " OR w250")


def test_an_error_of_the_database_is_raised(file: SearchFile) -> None:
    facts = read_facts(file.connection)
    file.connection.execute("DROP TABLE messages_fts")
    with pytest.raises(sqlite3.OperationalError, match="messages_fts"):
        search(file.connection, facts, "docker")


def test_every_statement_runs_to_its_end(file: SearchFile) -> None:
    """An open one would hold a snapshot and pin the log."""
    file.extend(["docker", "安装docker", "कि docker"])
    executed: list[sqlite3.Cursor] = []

    class Watched:
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            executed.append(file.connection.execute(sql, parameters))
            return executed[-1]

    for query in ("docker", "docker कि", "安"):
        search(Watched(), read_facts(file.connection), query)
    assert executed
    assert all(cursor.fetchone() is None for cursor in executed)


@pytest.mark.parametrize("offset", [0, 1])
def test_neighbours_are_looked_up_by_the_index(file: SearchFile, offset: int) -> None:
    file.extend(["docker", "docker"])
    plans: list[str] = []

    class Explaining:
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if "LEFT JOIN messages AS b" in sql:
                plan = file.connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
                plans.extend(row[3] for row in plan)
            return file.connection.execute(sql, parameters)

    search(Explaining(), read_facts(file.connection), "docker", offset=offset)
    looked_up = [plan for plan in plans if "SEARCH p" in plan]
    by_id = "SEARCH p USING INTEGER PRIMARY KEY (rowid=?)"
    by_session = "SEARCH p USING COVERING INDEX idx_messages_session (session_id=?"
    assert looked_up == [
        by_id, f"{by_session} AND timestamp<?)", f"{by_session})",
        by_id, f"{by_session} AND timestamp>?)", f"{by_session})",
    ]  # fmt: skip
    assert not [plan for plan in plans if plan.startswith("SCAN p")]


_CHARACTERS = (
    "aбéế中文装かガｶー々한１٣कไกด🥰₽⼀𞤀Აİß\u2067\u200c\ue000\U0002b820 .。・-_\0\u0301\u0338\u3000"
)
_CLUSTERS = (
    "Docker cafe\u0301 café мой мои\u0306 हिन्दी ज़ ज\u093c क्\u200dष ที่ 👍🏽 葛\U000e0100 か\u3099 AND"
)
_PIECES = st.sampled_from([*_CHARACTERS, *_CLUSTERS.split()]) | st.characters(
    exclude_categories=["Cs"]
)
_TEXTS = st.lists(_PIECES, max_size=12).map("".join)
_QUERIES = st.lists(_PIECES | st.sampled_from(['"', "*", " AND ", " OR ", " NOT "]), max_size=8)


@settings(deadline=None)
@given(st.lists(_TEXTS, min_size=1, max_size=6), _QUERIES.map("".join), st.data())
def test_the_indexes_find_what_judging_every_text_finds(
    texts: list[str], query: str, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        text = data.draw(st.sampled_from(texts))
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, len(text)))
        query = text[start:end] + data.draw(st.sampled_from(["", "*", f" NOT {query}"]))
    tree = parse(query)
    with search_file() as opened:
        ids = opened.extend(texts)
        expected = set()
        if tree is not None:
            scan = Scan(tree)
            expected = {found for found, text in zip(ids, texts, strict=True) if scan.matches(text)}
        for change in (
            "SELECT 1",
            "UPDATE sessiond_meta SET cjk_cursor = 0",
            "UPDATE sessiond_meta SET index_state = 'damaged'",
        ):
            opened.connection.execute(change)
            rows = opened.search(query).rows
            assert {row["id"] for row in rows} == expected
            assert all(">>>" in row["snippet"] for row in rows)
