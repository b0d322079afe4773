"""``python -m sessiond_client.cli``."""

from sessiond_client.cli import main

main()
