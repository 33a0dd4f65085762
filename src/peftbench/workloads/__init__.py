"""The workloads: the function that a round calls, and what the cases of a run share.

It imports measure and the rooms below it.
"""
