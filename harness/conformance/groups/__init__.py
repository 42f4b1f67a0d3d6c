"""The cases, a module for each group. See `harness.conformance.catalogue`."""
