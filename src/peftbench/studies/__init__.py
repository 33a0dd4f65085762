"""The studies, which run once for a case and have no rounds: trainings to a quality, serving and merging.

It imports run and the rooms below it.
"""
