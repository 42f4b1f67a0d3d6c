"""A Kubernetes node in miniature.

`Node` is a private world, `Pod` a network namespace in it, `PacketRecorder` records what crosses its link.
"""
