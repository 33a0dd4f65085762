"""The page of results: one HTML file with plots and tables, and the same plots as figures for a paper.

It imports reports, claims, gate and records, and neither torch nor pytest.
"""
