"""What a scenario runs in: the sandbox of this machine, or a Kubernetes cluster with Istio."""
