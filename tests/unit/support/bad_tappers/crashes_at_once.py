"""Has a bug in its first line."""

raise ValueError("no such interface: eth7")
