"""Conversations that nobody arranged: drawn by rule, written down as plans, and played in a trial.

A plan (`plan`) says which connections there are and what passes on them. `strategies` draws plans, `writing` turns one
connection into bytes, `play` plays a plan in pods. The plans that `check` plays are files in `plans/`, so that a run
plays the same everywhere, whatever is installed; hypothesis draws only the new ones of `check --soak`, and makes those
that fail smaller.
"""
