"""Tappers that are wrong on purpose, to prove that the cases can fail.

A mutant is the reference tapper with a fault around it (`model.Fault`, run by `wrapper`): filters over its records, its
packets or its list of targets, or manners of its own. Those in `inside` replace public names of the reference. A module
for each group of cases; `catalogue` knows all of them, `wild` makes more by rules and conditions.
`python -m harness.conformance.mutants NAME` runs one as the adapter contract wants it.
"""
