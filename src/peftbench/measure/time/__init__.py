"""Clocks, rounds that alternate with the reference, and the anchor.

It imports the trial, which it times.
"""
