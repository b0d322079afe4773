"""The daemon that owns an agent's session database."""
