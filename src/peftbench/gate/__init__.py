"""The gate: its rule and statistics, the baseline file, and the comparison of two runs.

It imports records, and neither torch nor pytest.
"""
