"""What each write does to the tables, one module per noun."""

from sessiond.sqlite.handlers import messages, routes, sessions, tokens
from sessiond.sqlite.handlers.registry import HANDLERS

__all__ = ["HANDLERS", "messages", "routes", "sessions", "tokens"]
