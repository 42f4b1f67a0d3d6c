"""Adapter files and the scripts beside them."""
