"""A small chat gateway: several processes, two chat platforms, one store.

``python -m examples.gateway`` runs it on scripted dialogues: three gateway processes share the
messages of both platforms, one of them is killed every day in the middle of its conversations
and started again, and in the end every transcript equals its script.
"""
