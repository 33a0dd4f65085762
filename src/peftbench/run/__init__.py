"""The runner of cases: it takes the passes in order, and returns a record whatever happens.

It imports validity and the rooms below it.
"""
