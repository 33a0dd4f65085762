"""Measured results as plain data: records, the run file, the journal, and the parts of a run and their joining.

It imports errors and text, and neither torch nor pytest.
"""
