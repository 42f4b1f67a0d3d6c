"""A Kubernetes node in miniature.

`Node` is a private world, `Pod` a network namespace in it, `Wire` what a pod's veth carried.
"""
