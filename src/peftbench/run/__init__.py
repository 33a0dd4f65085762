"""One case after the other: the passes in their order, and a record whatever happens.

It imports validity and what is below it.
"""
