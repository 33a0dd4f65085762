"""State of the process that outlives a case: read before it, compared after it, put back, and told in its record.

It imports tasks and what is below them, `text` and no other room.
"""
