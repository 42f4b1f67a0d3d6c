"""A test harness for Kubernetes traffic tappers: sandboxed nodes, pods, Envoy sidecars with mTLS, conformance cases.

Importing this package is cheap on purpose: the sandbox's PID 1 imports it on every start.
"""
