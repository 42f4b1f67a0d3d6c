"""Conversations that are drawn by rule, written down as plans, and played in a trial.

A plan (`plan`) describes connections and their exchanges. `strategies` draws plans, `writing` turns one connection into
bytes, `play` plays a plan in pods. `check` plays plans that are files in `plans/`, so that every run plays the same;
hypothesis draws only the new plans of `check --soak`; `shrinking` makes those that fail smaller.
"""
