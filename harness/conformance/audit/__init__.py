"""Traces of a tapper: files, packets, changes of a network namespace."""
