"""JSON Lines as they come."""

from sessiond_client.cli.lines import read_lines


def test_a_mark_of_the_byte_order_is_no_trouble() -> None:
    assert [line.value for line in read_lines([b'\xef\xbb\xbf{"a": 1}\n'])] == [{"a": 1}]


def test_objects_and_what_is_none() -> None:
    deep = b"[" * 200_000
    data = [b'{"a": 1}\n', b"\n", b"  \r\n", b"nonsense\n", b"[1]\n", b"\xff\xfe\n", deep, b"{}"]
    lines = list(read_lines(data))
    assert [(line.number, line.value) for line in lines] == [
        (1, {"a": 1}),
        (4, None),
        (5, None),
        (6, None),
        (7, None),
        (8, {}),
    ]
    assert [line.trouble.split(":")[0] for line in lines if line.value is None] == [
        "not JSON",
        "list instead of an object",
        "not UTF-8",
        "not JSON",
    ]
    assert sum(line.size for line in lines) == sum(map(len, data)) - len(b"\n  \r\n")
