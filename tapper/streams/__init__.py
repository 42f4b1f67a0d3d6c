"""Bytes out of packets: TCP reassembly, connections, the asymmetric leg of a mesh. Pure: no I/O, no clock."""
