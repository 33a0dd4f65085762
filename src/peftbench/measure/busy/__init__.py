"""How long a GPU is busy in a round: the trace of a profiler, reduced to a few numbers.

It imports the trial and records.
"""
