"""Which cases there are: the catalogue of methods, tasks, models and workloads, and what is chosen of it.

It imports studies and what is below them.
"""
