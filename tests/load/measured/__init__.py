"""What beside throughput has a goal: one concern a file, each measured beside its alternative.

A concern prepares its databases once and is then measured in short rounds; whatever a round
compares runs within the round, the order turned round every second time. ``goals`` says what is
made of the figures, ``site`` where it happens; ``python -m tests.load.measures`` runs them.
"""
