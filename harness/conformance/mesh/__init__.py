"""The tools of the cases in a mesh of real sidecars, in the sandbox and in a cluster."""
