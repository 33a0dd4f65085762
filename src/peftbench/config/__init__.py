"""Every setting of a run: its option, its help text, and how its value is read.

It imports the gate's rule, records and errors.
"""
