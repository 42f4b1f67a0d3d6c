"""Some descriptors are kept free: reading /proc and the targets file takes one for a moment, and nothing goes on
without it."""

from __future__ import annotations

import errno
import os
import resource

_SPARE = 16


def lasting(descriptor: int) -> int:
    """The descriptor, which is to be kept for long. Closes it and raises OSError (EMFILE) where it is one of the last
    that the limit allows."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and descriptor >= limit - _SPARE:
        os.close(descriptor)
        raise OSError(errno.EMFILE, "too many open files: raise the limit (ulimit -n)")
    return descriptor
