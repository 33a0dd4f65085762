"""The catalogue of methods, tasks, models and workloads, and the cases that are chosen from it.

It imports studies and the rooms below them.
"""
