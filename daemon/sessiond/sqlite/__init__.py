"""The session database on SQLite: the only code that writes SQL."""
