"""The life of a run: what is captured now (tap) or read from a file (replay), counted, and written."""
