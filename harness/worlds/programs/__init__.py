"""Servers and clients that run inside pods, of any world: Python, the standard library and hpack, nothing else."""
