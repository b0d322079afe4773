"""How wide the columns of a table are at a terminal, and which of them have to be left out."""

from collections.abc import Sequence


def fit(natural: Sequence[int], least: Sequence[int], room: int, gap: int) -> list[int]:
    """The widths of the columns that are shown, from the left; there may be fewer than given.

    Columns get what they need (``natural``). Where that is more than ``room``, the widest are
    narrowed first, none below its ``least``; where even that is too much, columns are left out
    from the right, though never the first. ``gap`` stands between two columns.
    """
    count = len(natural)
    while count > 1 and sum(least[:count]) + gap * (count - 1) > room:
        count -= 1
    widths = list(natural[:count])
    excess = sum(widths) + gap * (count - 1) - room
    while excess > 0:
        spare = [width - bound for width, bound in zip(widths, least, strict=False)]
        if max(spare) <= 0:
            break
        at = max(range(count), key=lambda each: (spare[each] > 0, widths[each]))
        widths[at] -= 1
        excess -= 1
    return widths
