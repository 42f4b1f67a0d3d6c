"""Tappers under test: starting one in a node and reading what it says."""
