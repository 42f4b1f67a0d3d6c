"""A world made of Kubernetes objects: needs the packages of the `e2e` extra."""
