"""Worlds for scenarios: the sandbox of this machine, or a Kubernetes cluster with Istio."""
