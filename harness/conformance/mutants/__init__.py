"""Tappers that are broken on purpose: the reference with one defect each, to prove that the cases can fail.

The defects live here and not in the reference: each replaces one piece of it before it starts. A module for each group
of cases; `python -m harness.conformance.mutants NAME` runs one as the adapter contract wants it.
"""
