"""Cases in processes of their own: launches, and lock-step with another state of the code.

It knows settings and targets, not the pytest session; it imports report and what is below it.
"""
