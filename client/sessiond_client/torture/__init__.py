"""The proof by violence: real writers, injected faults, and a count of what was lost.

``plan`` says what will happen, reproducibly; ``run`` makes it happen with the daemon and the
writers as processes of their own; ``verdict`` compares what is stored with what the writers
noted. Nothing here imports the daemon: it is the installed program that is tortured.
"""
