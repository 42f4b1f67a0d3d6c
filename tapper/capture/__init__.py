"""Packets out of network namespaces: entering them, the kernel's filter, the ring, and the loop over the open
sources."""
