"""Serving several tasks, with one model for each task or one backbone with adapters, and the cost of a request.

It imports the studies' common base and trainings.
"""
