"""State of the process that outlives a case: read before it, compared after it, put back, and told in its record."""
