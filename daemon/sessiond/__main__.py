"""``python -m sessiond``."""

from sessiond.cli import main

main()
