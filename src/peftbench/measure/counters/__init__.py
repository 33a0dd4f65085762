"""The counters, which are equal from run to run: FLOPs, operator calls, bytes, parameters, Python calls, bytecodes.

It imports the methods' common base and records.
"""
