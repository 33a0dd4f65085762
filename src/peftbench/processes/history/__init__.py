"""A chain of lock-steps, from state to state of the code, kept in a file that can be continued.

It imports lock-step and launches.
"""
