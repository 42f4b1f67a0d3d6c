"""The oracle: what a tapper had to report, worked out from what crossed each pod's `lo`, and compared with its output.

The steps, each a module of pure functions:

    wire         frames -> TCP connections with two byte streams
    http1, http2, grpc, websocket, decode
                 a connection -> its exchanges and messages, read with the whole stream in hand
    expectation  exchanges -> one expected record for each, and whether the tapper must, may or must not report it
    compare      an expected record and a reported one -> the fields that differ
    matching     all expected records and all reported ones, one to one -> differences
    packets      the same for tappers that write packets
    attribution  a difference -> the case whose requirement it breaks

`judge` (harness.conformance.oracle.judge) joins them. Nothing here imports the tapper: the oracle must not share its
mistakes.
"""
