"""The addresses that are tapped: a list, a file, or pods of Kubernetes."""
