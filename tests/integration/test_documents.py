"""The pages that take something from the code are current, and what they show is true."""

import re
import runpy
from pathlib import Path

import msgpack
import pytest

from sessiond_protocol import wire
from sessiond_protocol.requests.message import MessageAppend

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["protocol.md", "configuration.md"])
def test_generated_parts_are_current(page: str) -> None:
    current = runpy.run_path(str(DOCS / "generate.py"))["current"]
    assert (DOCS / page).read_text(encoding="utf-8") == current(page), (
        "run: python docs/generate.py"
    )


def test_the_example_in_bytes_is_what_the_codec_makes() -> None:
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    request, response = re.findall(r"```hex\n(.*?)```", page, re.DOTALL)
    data = bytes.fromhex("".join(re.findall(r"^\s*((?:[0-9a-f]{2,} ?)+)(?:\s|$)", request, re.M)))
    message = {"role": "user", "timestamp": 1.5, "content": "hi"}
    arguments = {"session_id": "s1", "message": message}
    place = {"seq": 1, "floor": 1, "ttl": 30.0}
    assert msgpack.unpackb(data) == [0, 7, MessageAppend.METHOD, [arguments, place]]
    assert wire.request(7, MessageAppend.METHOD, msgpack.packb(arguments),
                        wire.Place(seq=1, floor=1, ttl=30.0)) == data  # fmt: skip
    assert bytes.fromhex(response.strip()) == wire.response(7, 42)


def test_links_lead_somewhere() -> None:
    root = DOCS.parent
    for page in (root / "README.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
