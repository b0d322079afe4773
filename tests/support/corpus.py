"""Real text for tests and benchmarks: dialogues in many languages, and long English prose.

The dialogues are those of the ``chatterbot-corpus`` package; the long texts are what every Python
installation carries. Nothing here is random unless a seed is given, and the same seed on the same
installation gives the same text.
"""

import ast
import codecs
import functools
import importlib.util
import random
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final

import yaml

# Modules whose source is rich in prose; all of them exist in every supported Python.
_DOCUMENTED_MODULES: Final = (
    "_pydecimal",
    "argparse",
    "difflib",
    "doctest",
    "optparse",
    "pickletools",
    "random",
    "statistics",
    "subprocess",
    "tarfile",
    "threading",
    "typing",
)
# Read as a whole: an agent's transcript holds pasted code as well.
_SOURCE_MODULES: Final = ("heapq", "shlex", "textwrap")

_SHORTEST_PARAGRAPH: Final = 80
_LONGEST_PARAGRAPH: Final = 4000
# One paragraph in so many is a whole dialogue in some language.
_DIALOGUE_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation: ``turns`` alternate between two speakers, in the language's own script.

    ``index`` is its place in the file ``<language>/<category>.yml``. Some dialogues and turns
    occur more than once, as people say the same thing more than once.
    """

    language: str
    category: str
    index: int
    turns: list[str]


@dataclass(frozen=True, slots=True)
class LongText:
    """A text of some thousand characters or more, and where it is from."""

    name: str
    text: str


def dialogues() -> list[Dialogue]:
    """Every dialogue with at least one turn, ordered by language, category and place.

    Raises LookupError when the package is not installed, yaml.YAMLError (naming the file) when a
    file is not YAML, and ValueError when it has no list of conversations.
    """
    return list(_dialogues())


def long_texts() -> list[LongText]:
    """Some hundred KB of English prose and code; every text is there on every installation."""
    return list(_long_texts())


def paragraphs(seed: int, count: int) -> list[str]:
    """``count`` paragraphs in an order that ``seed`` decides; they repeat once all were used.

    Nine in ten are paragraphs of the long texts (80 to 4000 characters, a few hundred on the
    average), every tenth is a dialogue in one of the languages, one turn per line.
    """
    if count < 0:
        raise ValueError(f"count {count} is negative; allowed is 0 or more")
    chooser = random.Random(seed)
    prose = _shuffled_forever(_prose_paragraphs(), chooser)
    spoken = _shuffled_forever(_spoken_paragraphs(), chooser)
    return [
        next(spoken) if place % _DIALOGUE_EVERY == _DIALOGUE_EVERY - 1 else next(prose)
        for place in range(count)
    ]


def turns_of(conversation: Any) -> list[str]:
    """The turns of one entry of a ``conversations`` list, as text, without empty ones.

    An entry should be a list of texts. A bare text counts as one turn; ``key: value`` that YAML
    took for a mapping becomes that text again; nested lists are flattened.
    """
    if conversation is None:
        return []
    if isinstance(conversation, dict):
        return [f"{key}: {value}".strip() for key, value in conversation.items()]
    if isinstance(conversation, list):
        return [turn for item in conversation for turn in turns_of(item)]
    text = str(conversation).strip()
    return [text] if text else []


@functools.cache
def _dialogues() -> tuple[Dialogue, ...]:
    return tuple(
        dialogue
        for path in sorted(_dialogue_folder().glob("*/*.yml"))
        for dialogue in read_dialogues(path)
    )


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """The dialogues of one file; its folder names the language."""
    # Of the loaders only the base one leaves "Yes", "1.10" and "2001-01-01" the text they are.
    with path.open(encoding="utf-8") as stream:
        document = yaml.load(stream, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    match document:
        case {"conversations": list(conversations)}:
            pass
        case _:
            raise ValueError(f"{path} has no list of conversations")
    for index, conversation in enumerate(conversations):
        if turns := turns_of(conversation):
            yield Dialogue(path.parent.name, path.stem, index, turns)


def _dialogue_folder() -> Path:
    # The package is located, not imported: importing it would load all of its own machinery.
    found = importlib.util.find_spec("chatterbot_corpus")
    if found is None or not found.submodule_search_locations:
        raise LookupError("chatterbot-corpus is not installed; it is in the dev dependencies")
    return Path(found.submodule_search_locations[0]) / "data"


@functools.cache
def _long_texts() -> tuple[LongText, ...]:
    texts = [LongText("this", _zen())]
    texts += [LongText(f"topic {name}", topics[name]) for name in sorted(topics)]
    for module in _DOCUMENTED_MODULES:
        texts.append(LongText(f"docstrings of {module}", _docstrings(_source(module))))
    for module in _SOURCE_MODULES:
        texts.append(LongText(f"source of {module}", _source(module)))
    licence = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    if licence.is_file():  # some distributions package it elsewhere
        texts.append(LongText("licence", licence.read_text(encoding="utf-8")))
    return tuple(texts)


def _source(module: str) -> str:
    return (Path(sysconfig.get_path("stdlib")) / f"{module}.py").read_text(encoding="utf-8")


def _zen() -> str:
    # Importing the module would print it.
    assignment = ast.parse(_source("this")).body[0]
    if not isinstance(assignment, ast.Assign):
        raise TypeError("the first statement of this.py is not its text")
    return codecs.decode(str(ast.literal_eval(assignment.value)), "rot13")


def _docstrings(source: str) -> str:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (
        ast.get_docstring(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented)
    )
    return "\n\n".join(text for text in found if text)


@functools.cache
def _prose_paragraphs() -> tuple[str, ...]:
    pieces = (piece.strip() for text in _long_texts() for piece in re.split(r"\n\s*\n", text.text))
    fitting = (piece for piece in pieces if _SHORTEST_PARAGRAPH <= len(piece) <= _LONGEST_PARAGRAPH)
    return tuple(dict.fromkeys(fitting))


@functools.cache
def _spoken_paragraphs() -> tuple[str, ...]:
    return tuple(dict.fromkeys("\n".join(dialogue.turns) for dialogue in _dialogues()))


def _shuffled_forever(texts: tuple[str, ...], chooser: random.Random) -> Iterator[str]:
    order = list(texts)
    while True:
        chooser.shuffle(order)
        yield from order
