"""The studies, which run once for a case and have no rounds: trainings to a quality, and serving.

It imports run and the rooms below it.
"""
