"""``sessionctl``: the store for people, at a terminal and in scripts."""

from sessiond_client.cli.program import main

__all__ = ["main"]
