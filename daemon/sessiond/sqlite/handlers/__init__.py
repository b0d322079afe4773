"""What each write does to the tables, one module per noun."""

from sessiond.sqlite.handlers import messages, sessions, tokens
from sessiond.sqlite.handlers.registry import HANDLERS

__all__ = ["HANDLERS", "messages", "sessions", "tokens"]
