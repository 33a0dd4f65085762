"""The verdicts of records on the paper's claims, and the methods that they recommend.

It imports the trainings' results and records, but neither torch nor pytest.
"""
