"""Measuring the daemon: real client processes, real text, the same work from a seed.

``operations`` says what is done, ``workers`` has processes do it at the same time, ``summary``
says what came of it. ``run`` puts them together for ``sessionctl bench``. The work knows nothing
of who does it, so that other programs that store sessions can be measured at exactly the same.
"""
