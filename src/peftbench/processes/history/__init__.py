"""Histories: lock-step from each state of the code to the next, kept in a file that a later call continues."""
