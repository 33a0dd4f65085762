"""When a case is slower: the rule, its statistics, the baseline file, and the comparison of two runs.

It imports records: neither torch nor pytest.
"""
