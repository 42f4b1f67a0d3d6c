"""Which processes are Envoys of a target, and in which network namespace they live."""
