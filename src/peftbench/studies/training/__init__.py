"""Real trainings on one task or on several together, with evaluations, a learning curve and its costs.

It imports the studies' common base.
"""
