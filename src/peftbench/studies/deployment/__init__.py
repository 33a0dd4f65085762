"""Serving several tasks: one model a task, one backbone with adapters, and what a request costs.

It imports the studies' common base and trainings.
"""
