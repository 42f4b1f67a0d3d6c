"""The cost of tapping: compares the reference tapper with other programs for the same purpose, in one run.

workloads   a server with known answers and a client with known requests, in a sandboxed node
peers       the compared programs: how each is started, and how its output is counted
meter       runs a peer and measures its processor time; measure: one measurement of one peer
rounds      measures all peers in turn, several times
scaling     the tapper's cost as a function of namespaces, processes, targets and time
prices      the cost of a byte of hostile traffic, compared with normal traffic
endurance   what the tapper keeps after very many pods, processes and broken packets
kit         the time that the harness itself takes; not part of the comparison
table, goals, words, plot, document   the printed and saved results
"""
