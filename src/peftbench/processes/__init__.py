"""Measures cases in child processes: launches, and lock-step with another state of the code.

It knows settings and targets, and not the pytest session. It imports report and the rooms below.
"""
