"""What was measured, as plain data: records, the run file, the journal, parts of a run and their joining.

It imports errors and text alone: neither torch nor pytest.
"""
