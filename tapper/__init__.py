"""The reference tapper: decrypted HTTP out of service-mesh pods, by way of their own network namespaces."""

from tapper.runtime.form import choose

__version__ = "0.1.0"

FORM = choose()
"""`compiled` or `pure Python`: before anything else is imported of this package."""
