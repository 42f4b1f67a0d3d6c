"""What tapping costs: the reference tapper beside every program that a user would take instead, in one run.

workloads   a server with known answers and a client with known requests, in a sandboxed node
peers       the programs that are compared: how each is started and how its output is counted
meter       the program that each of them runs under; measure: one measurement of one of them
rounds      all of them in turn, again and again
scaling     what the tapper alone costs as something grows
kit         what the harness itself takes, which is no part of all that
table, goals, words, plot, document   what is printed and saved
"""
