"""What the user asked for: each setting once, and how it is read.

It imports the gate's rule, records and errors.
"""
