"""What records say about the paper's claims, and which method they recommend.

It imports the trainings' results and records: neither torch nor pytest.
"""
