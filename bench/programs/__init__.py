"""Peers that are libraries, each as the short program that the library's documents show."""
