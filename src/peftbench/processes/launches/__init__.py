"""Launches: the assignment of a fresh process, its start and its end.

It imports gate, records and report.
"""
