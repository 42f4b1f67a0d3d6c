"""Mutants that are made inside the reference: in what it captures, and in how it finds its targets.

What they break does not show in records alone, or not in all of them: sockets, memory, processes that are looked at.
Each replaces public names of the tapper before it runs, and no others: a change of the tapper that keeps its public
names breaks none of these.
"""
