"""Which process this is: a number that rises in every forked child.

Connections, channels and writes that are on their way belong to the parent, which goes on with
them. Whatever holds them compares the number it was made under.
"""

import os

era = 0


def _in_child() -> None:
    global era
    era += 1


os.register_at_fork(after_in_child=_in_child)
