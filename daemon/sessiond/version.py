"""This program's version, as its distribution says it."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("sessiond")
