"""Real text for messages: paragraphs of a few hundred characters, as people and models write."""

import builtins
import json
import random
import re
from pathlib import Path
from typing import Any, Final

_SHORTEST: Final = 80
_LONGEST: Final = 4000
_FEWEST: Final = 20
_BLANK_LINE: Final = re.compile(r"\n\s*\n")


def built_in(seed: int) -> list[str]:
    """The prose that every Python installation carries, in an order that ``seed`` decides."""
    texts = [getattr(builtins, name).__doc__ or "" for name in sorted(dir(builtins))]
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions package it elsewhere
        pass
    else:
        texts += [topics[name] for name in sorted(topics)]
    pieces = (piece.strip() for text in texts for piece in _BLANK_LINE.split(text))
    found = list(dict.fromkeys(piece for piece in pieces if _SHORTEST <= len(piece) <= _LONGEST))
    random.Random(seed).shuffle(found)
    return found


def from_file(path: Path) -> list[str]:
    """A JSON array of texts. ValueError if it is none, or has fewer than 20."""
    texts: Any = json.loads(path.read_text(encoding="utf-8"))
    if not (isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)):
        raise ValueError(f"{path} is not a JSON array of texts")
    if len(texts) < _FEWEST:
        raise ValueError(f"{path} has {len(texts)} texts, at least {_FEWEST} are needed")
    return texts
