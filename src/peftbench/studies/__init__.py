"""What runs once for a case, from its start to its end: trainings to a quality, and serving.

It imports run and what is below it.
"""
