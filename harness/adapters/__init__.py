"""Tappers under test: their adapters, how they are started, and how their output is read."""
