"""One fresh process a launch: what it is told to do, how it is started, and what came of it.

It imports gate, records and report.
"""
