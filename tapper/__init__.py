"""The reference tapper: decrypted HTTP out of service-mesh pods, by way of their own network namespaces."""

__version__ = "0.1.0"
