"""Cases that play in a mesh of real sidecars: what they work with, in the sandbox and in a cluster."""
