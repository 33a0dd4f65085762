"""Clocks, rounds and their alternation with the reference, and the anchor.

It imports the trial that it times.
"""
